#include "files/json.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "files/file.h"

namespace thimble {
namespace {

constexpr int kDeepest = 64;

// Builds the document, and remembers where and why it stopped.
template <class Document>
class Parser : public nlohmann::detail::json_sax_dom_parser<Document> {
  using DomParser = nlohmann::detail::json_sax_dom_parser<Document>;

 public:
  explicit Parser(Document& document) : DomParser(document, false) {}

  bool start_object(size_t count) { return deeper() && DomParser::start_object(count); }
  bool start_array(size_t count) { return deeper() && DomParser::start_array(count); }
  bool end_object() { return --depth_, DomParser::end_object(); }
  bool end_array() { return --depth_, DomParser::end_array(); }
  template <class Exception>
  bool parse_error(size_t position, const std::string&, const Exception&) {
    position_ = position;
    return false;
  }

  size_t position() const { return position_; }
  bool too_deep() const { return depth_ > kDeepest; }

 private:
  bool deeper() { return ++depth_ <= kDeepest; }
  int depth_ = 0;
  size_t position_ = 0;
};

template <class T>
constexpr std::string_view kKind = "";
template <>
constexpr std::string_view kKind<bool> = "true or false";
template <>
constexpr std::string_view kKind<int64_t> = "an integer";
template <>
constexpr std::string_view kKind<double> = "a number";
template <>
constexpr std::string_view kKind<std::string> = "a string";

template <class T>
bool holds(const Json& value) {
  if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
  if constexpr (std::is_same_v<T, double>) return value.is_number();
  if constexpr (std::is_same_v<T, std::string>) return value.is_string();
  if (value.is_number_unsigned()) {
    return value.get<uint64_t>() <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  }
  return value.is_number_integer();
}

// A value in a message: short, whatever it is.
std::string excerpt(const Json& value) {
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  return text;
}

template <class Document>
Result<Document> parse(std::string_view text, const std::string& source) {
  Document document;
  Parser<Document> parser(document);
  if (!Document::sax_parse(text.begin(), text.end(), &parser)) {
    if (parser.too_deep()) {
      return fail(ErrorCode::corrupt, "reading {}: the JSON is nested more than {} deep", source, kDeepest);
    }
    return fail(ErrorCode::corrupt, "reading {}: it is not valid JSON at byte {}", source, parser.position());
  }
  return document;
}

}  // namespace

template <class Value>
JsonBox<Value>::JsonBox() : value_(std::make_unique<Value>()) {}
template <class Value>
JsonBox<Value>::JsonBox(Value value) : value_(std::make_unique<Value>(std::move(value))) {}
template <class Value>
JsonBox<Value>::JsonBox(const JsonBox& other) : JsonBox(*other) {}
template <class Value>
JsonBox<Value>::JsonBox(JsonBox&&) noexcept = default;
template <class Value>
JsonBox<Value>& JsonBox<Value>::operator=(JsonBox other) noexcept {
  value_ = std::move(other.value_);
  return *this;
}
template <class Value>
JsonBox<Value>::~JsonBox() = default;

template class JsonBox<Json>;
template class JsonBox<nlohmann::ordered_json>;

Result<Json> parse_json(std::string_view text, const std::string& source) { return parse<Json>(text, source); }

Result<nlohmann::ordered_json> parse_ordered_json(std::string_view text, const std::string& source) {
  return parse<nlohmann::ordered_json>(text, source);
}

Result<Json> read_json_file(const std::string& path, uint64_t limit_bytes) {
  const std::string text = TRY(read_text_file(path, limit_bytes));
  return parse_json(text, path);
}

std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<JsonFields> JsonFields::of(const Json& object, std::string source) {
  if (!object.is_object()) {
    return fail(ErrorCode::corrupt, "reading {}: expected a JSON object, found {}", source, excerpt(object));
  }
  return JsonFields(object, std::move(source));
}

const Json* JsonFields::find(std::string_view key) const {
  const auto found = object_->find(std::string(key));
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

template <class T>
Result<T> JsonFields::get(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return fail(ErrorCode::corrupt, "reading {}: the field '{}' is missing", source_, key);
  if (!holds<T>(*value)) {
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be {}, found {}", source_, key, kKind<T>, excerpt(*value));
  }
  return value->get<T>();
}

template Result<bool> JsonFields::get(std::string_view) const;
template Result<int64_t> JsonFields::get(std::string_view) const;
template Result<double> JsonFields::get(std::string_view) const;
template Result<std::string> JsonFields::get(std::string_view) const;

Result<JsonFields> JsonFields::object(std::string_view key) const {
  const Json* value = find(key);
  if (!value) return fail(ErrorCode::corrupt, "reading {}: the field '{}' is missing", source_, key);
  return of(*value, fmt::format("{}, field '{}'", source_, key));
}

}  // namespace thimble
