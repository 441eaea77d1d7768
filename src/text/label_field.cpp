#include "text/label_field.h"

#include <charconv>
#include <cmath>

#include "text/parse_json.h"
#include "text/record_fields.h"

namespace thimble {
namespace {

constexpr std::string_view kField = "label";
constexpr size_t kLongestName = 1024;

// "0", "12", as numbers are written; nothing for other texts.
std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool plain = error == std::errc{} && end == text.data() + text.size() && value >= 0;
  return plain && (text.size() == 1 || text[0] != '0') ? std::optional(value) : std::nullopt;
}

// A label as a number of a class; nothing where it is a name. -1: it is neither.
std::optional<int64_t> number_in(const RecordFields::Element& value) {
  bool flag = false;
  double number = 0;
  std::string_view text;
  if (value.get(flag) == simdjson::SUCCESS) return flag ? 1 : 0;
  if (value.get(text) == simdjson::SUCCESS) return whole_number(text);
  const bool whole = value.get(number) == simdjson::SUCCESS && number == std::floor(number) && number >= 0 &&
                     number < static_cast<double>(kMostLabels);
  return whole ? static_cast<int64_t>(number) : -1;
}

std::string_view text_in(const RecordFields::Element& value) {
  std::string_view text;
  return value.get(text) == simdjson::SUCCESS ? text : std::string_view();
}

}  // namespace

LabelField::LabelField(const Labels& labels) : kind_(labels.kind), count_(labels.count()) {
  for (int64_t id = 0; id < count_; ++id) {
    ids_.emplace(labels.names[static_cast<size_t>(id)], id);
    named_ |= labels.names[static_cast<size_t>(id)] != plain_label(id);
  }
}

Result<float> LabelField::number(RecordFields& record) const {
  const auto value = record.find(kField);
  double number = 0;
  const std::string_view text = text_in(*value);
  const bool read =
      text.empty() ? value->get(number) == simdjson::SUCCESS
                   : std::from_chars(text.data(), text.data() + text.size(), number).ptr == text.data() + text.size();
  if (read && std::isfinite(static_cast<float>(number))) return static_cast<float>(number);
  return fail(ErrorCode::invalid_argument, "{}the field '{}' should be a number", record.where(), kField);
}

Result<float> LabelField::read(RecordFields& record) const {
  const auto value = record.find(kField);
  if (!value) return fail(ErrorCode::invalid_argument, "{}the field '{}' is missing", record.where(), kField);
  if (kind_ == Labels::Kind::number) return number(record);
  const auto known = ids_.find(text_in(*value));
  if (known != ids_.end()) return static_cast<float>(known->second);
  // Of classes with names true and false say nothing: which is which?
  const bool verdict = value->is_bool() && named_;
  if (const auto id = number_in(*value); !verdict && id && *id >= 0 && *id < count_) return static_cast<float>(*id);
  return fail(ErrorCode::invalid_argument, "{}the label {} is none of the {} there are ('{}' is the first)",
              record.where(), simdjson::minify(*value).substr(0, kLongestName), count_,
              ids_.empty() ? "" : ids_.begin()->first);
}

struct LabelScan::Parser {
  simdjson::dom::parser parser;
  std::string buffer;
};

LabelScan::LabelScan(const DatasetOptions& options) : parser_(std::make_unique<Parser>()), options_(options) {}
LabelScan::~LabelScan() = default;

Result<void> LabelScan::add(const InputFile& file, const JsonRecord& record) {
  if (record.length > options_.longest_line) return {};
  std::string& buffer = parser_->buffer;
  buffer.resize(std::max(buffer.size(), record.length + simdjson::SIMDJSON_PADDING));
  CHECK_OK(file.read(record.offset, std::as_writable_bytes(std::span(buffer.data(), record.length))));
  simdjson::dom::element root;
  simdjson::dom::object object;
  if (parse_padded_json(parser_->parser, {buffer.data(), record.length}).get(root) != simdjson::SUCCESS ||
      root.get(object) != simdjson::SUCCESS)
    return {};
  RecordFields fields(object, "", options_.columns);
  const auto value = fields.find(kField);
  if (!value) return {};
  const auto number = number_in(*value);
  if (number && *number >= 0 && *number < kMostLabels) {
    largest_ = std::max(largest_, *number);
  } else if (const std::string_view name = text_in(*value); !number && !name.empty() && name.size() <= kLongestName) {
    if (!names_.contains(name)) names_.emplace(name);
  } else if (odd_.empty()) {
    odd_ = simdjson::minify(*value).substr(0, kLongestName);
  }
  if (static_cast<int64_t>(names_.size()) <= kMostLabels) return {};
  return fail(ErrorCode::unsupported, "reading {}: its records have more than {} labels; is '{}' the class?",
              file.path(), kMostLabels, kField);
}

Result<Labels> LabelScan::finish(const std::string& files) const {
  if (largest_ >= 0 && !names_.empty())
    return fail(ErrorCode::invalid_argument, "{}: some labels are numbers, as {}, and others names, as '{}'", files,
                largest_, *names_.begin());
  Labels labels;
  labels.names.assign(names_.begin(), names_.end());
  for (int64_t id = 0; id <= largest_; ++id) labels.names.push_back(plain_label(id));
  if (labels.count() >= 2) return labels;
  return fail(ErrorCode::invalid_argument,
              "{}: expected records with two labels or more, found {}{}; --columns label=NAME says which field it is",
              files, labels.count(),
              odd_.empty()
                  ? ""
                  : fmt::format(", and {}, which is no class: a name, a number up to {}, true or false; several "
                                "at once are not there",
                                odd_, kMostLabels - 1));
}

}  // namespace thimble
