#include "files/safetensors_header.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

namespace thimble {
namespace {

using Json = nlohmann::json;

// Takes the parser's events; the level says which of the format's few nestings it is in.
class Handler : public nlohmann::json_sax<Json> {
 public:
  Handler(SafetensorsHeader& header, const std::string& path) : header_(header), path_(path) {}

  const std::optional<Error>& error() const { return error_; }

  bool null() override {
    if (level_ == Level::top && key_ == "__metadata__") return true;  // no metadata
    return unknown_field_ ? leave_unknown() : unexpected("null");
  }
  bool boolean(bool) override { return unknown_field_ ? leave_unknown() : unexpected("true or false"); }
  bool number_integer(number_integer_t) override {
    return unknown_field_ ? leave_unknown() : unexpected("a negative number");
  }
  bool number_float(number_float_t, const string_t&) override {
    return unknown_field_ ? leave_unknown() : unexpected("a number that is no integer");
  }
  bool binary(binary_t&) override { return unexpected("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (unknown_field_) return leave_unknown();
    if (level_ == Level::shape) return extent(value);
    if (level_ != Level::offsets) return unexpected("a number");
    if (offsets_ == 2) return refuse("tensor '{}': data_offsets has more than two numbers", tensor().name);
    (offsets_++ == 0 ? tensor().begin : tensor().end) = value;
    return true;
  }

  bool string(string_t& value) override {
    if (unknown_field_) return leave_unknown();
    if (level_ == Level::metadata) return header_.metadata[key_] = value, true;
    if (level_ == Level::tensor && key_ == "dtype") return tensor().dtype = value, true;
    return unexpected("a string");
  }

  bool key(string_t& name) override {
    if (unknown_field_) return true;
    key_ = name;
    if (level_ != Level::tensor) return true;
    bool* seen = key_ == "dtype"          ? &has_dtype_
                 : key_ == "shape"        ? &has_shape_
                 : key_ == "data_offsets" ? &has_offsets_
                                          : nullptr;
    if (!seen) return unknown_field_ = true;  // as the format's own reader does, whatever it holds
    if (*seen) return refuse("tensor '{}': the field '{}' is there twice", tensor().name, key_);
    return *seen = true;
  }

  bool start_object(size_t) override {
    if (unknown_field_) return ++unknown_depth_ <= kDeepest || refuse("tensor '{}': nested too deep", tensor().name);
    if (level_ == Level::nothing) return level_ = Level::top, true;
    if (level_ != Level::top) return unexpected("an object");
    if (key_ == "__metadata__") return level_ = Level::metadata, true;
    if (header_.tensors.size() == kMostTensors) return refuse("it lists more than {} tensors", kMostTensors);
    header_.tensors.emplace_back().name = key_;
    has_dtype_ = has_shape_ = has_offsets_ = false;
    return level_ = Level::tensor, true;
  }

  bool end_object() override {
    if (unknown_field_) return --unknown_depth_, leave_unknown();
    if (level_ == Level::top) return level_ = Level::nothing, true;
    if (level_ == Level::tensor && !(has_dtype_ && has_shape_ && has_offsets_)) {
      return refuse("tensor '{}': the field '{}' is missing", tensor().name,
                    !has_dtype_   ? "dtype"
                    : !has_shape_ ? "shape"
                                  : "data_offsets");
    }
    return level_ = Level::top, true;
  }

  bool start_array(size_t) override {
    if (unknown_field_) return ++unknown_depth_ <= kDeepest || refuse("tensor '{}': nested too deep", tensor().name);
    if (level_ != Level::tensor || key_ == "dtype") return unexpected("an array");
    offsets_ = 0;
    return level_ = key_ == "shape" ? Level::shape : Level::offsets, true;
  }

  bool end_array() override {
    if (unknown_field_) return --unknown_depth_, leave_unknown();
    if (level_ == Level::offsets && offsets_ != 2) {
      return refuse("tensor '{}': data_offsets should have two numbers, found {}", tensor().name, offsets_);
    }
    return level_ = Level::tensor, true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return refuse("the header is not valid JSON at byte {}", position);
  }

 private:
  enum class Level { nothing, top, metadata, tensor, shape, offsets };

  static constexpr int kDeepest = 64;
  static constexpr size_t kMostTensors = 1 << 18;

  // The value of an unknown field ends with the bracket that closes it, or is a scalar.
  bool leave_unknown() {
    unknown_field_ = unknown_depth_ > 0;
    return true;
  }

  SafetensorsHeader::Tensor& tensor() { return header_.tensors.back(); }

  bool extent(uint64_t value) {
    if (tensor().shape.rank() == Shape::kMaxRank) {
      return refuse("tensor '{}': its shape has more than {} extents", tensor().name, Shape::kMaxRank);
    }
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return refuse("tensor '{}': extent {} is too large", tensor().name, value);
    }
    tensor().shape.append(static_cast<int64_t>(value));
    return true;
  }

  bool unexpected(std::string_view what) {
    if (level_ == Level::nothing) return refuse("the header should be a JSON object, found {}", what);
    if (level_ == Level::top || level_ == Level::metadata) return refuse("'{}' cannot be {}", key_, what);
    return refuse("tensor '{}': '{}' cannot be or hold {}", tensor().name, key_, what);
  }

  template <class... Args>
  bool refuse(fmt::format_string<Args...> format, Args&&... args) {
    error_ = Error{ErrorCode::corrupt,
                   fmt::format("reading {}: {}", path_, fmt::format(format, std::forward<Args>(args)...))};
    return false;
  }

  SafetensorsHeader& header_;
  const std::string& path_;
  Level level_ = Level::nothing;
  std::string key_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
  bool unknown_field_ = false;  // within the value of one
  int unknown_depth_ = 0;
  std::optional<Error> error_;
};

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view text, const std::string& path) {
  SafetensorsHeader header;
  Handler handler(header, path);
  if (!Json::sax_parse(text.begin(), text.end(), &handler)) {
    if (handler.error()) return Failure(*handler.error());
    return fail(ErrorCode::corrupt, "reading {}: the header is not valid JSON", path);
  }
  return header;
}

}  // namespace thimble
