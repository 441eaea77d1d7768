#include "text/json_records.h"

#include <array>
#include <span>

#include "text/datasets.h"

namespace thimble {
namespace {

constexpr std::string_view kBlank = " \t\r\n";

// Hands the bytes of a file to a state machine, through one small buffer. Stops early when `step` says false.
template <class Step>
Result<void> for_each_byte(const InputFile& file, Step&& step) {
  std::string buffer(16 << 10, '\0');
  for (uint64_t at = TRY(byte_order_mark(file)); at < file.size(); at += buffer.size()) {
    buffer.resize(std::min<uint64_t>(buffer.size(), file.size() - at));
    CHECK_OK(file.read(at, std::as_writable_bytes(std::span(buffer))));
    for (size_t i = 0; i < buffer.size(); ++i) CHECK_OK(step(at + i, buffer[i]));
  }
  return {};
}

bool blank(char byte) { return kBlank.find(byte) != std::string_view::npos; }

// Objects that follow each other: brackets are counted as in an array.
class ValueScanner {
 public:
  ValueScanner(const std::string& path, const std::function<Result<void>(const JsonRecord&)>& visit)
      : path_(path), visit_(visit) {}

  Result<void> step(uint64_t at, char byte) {
    if (byte == '\n') ++line_;
    if (in_string_) {
      const bool closes = byte == '"' && !escaped_;
      escaped_ = byte == '\\' && !escaped_;
      in_string_ = !closes;
      return {};
    }
    if (blank(byte)) return {};
    if (depth_ == 0) {
      if (byte != '{')
        return fail(ErrorCode::corrupt, "{}:{}: reading JSON objects over several lines: expected '{{', found '{}'",
                    path_, line_, byte);
      record_ = {at, 0, line_};
    }
    in_string_ = byte == '"';
    if (byte == '{' || byte == '[') ++depth_;
    if ((byte == '}' || byte == ']') && --depth_ == 0) {
      record_.length = at + 1 - record_.offset;
      return visit_(record_);
    }
    return {};
  }

  Result<void> finish() const {
    if (depth_ == 0) return {};
    return fail(
        ErrorCode::corrupt,
        "{}:{}: reading JSON objects over several lines: the file ends within the object that begins at line {}", path_,
        line_, record_.line);
  }

 private:
  const std::string& path_;
  const std::function<Result<void>(const JsonRecord&)>& visit_;
  JsonRecord record_;
  int64_t line_ = 1, depth_ = 0;
  bool in_string_ = false, escaped_ = false;
};

class ArrayScanner {
 public:
  ArrayScanner(const std::string& path, const std::function<Result<void>(const JsonRecord&)>& visit)
      : path_(path), visit_(visit) {}

  Result<void> step(uint64_t at, char byte) {
    if (byte == '\n') ++line_;
    if (in_string_) {
      const bool closes = byte == '"' && !escaped_;
      escaped_ = byte == '\\' && !escaped_;
      in_string_ = !closes;
      return {};
    }
    if (depth_ == 0) {
      if (blank(byte)) return {};
      if (byte != '[' || closed_) return unexpected(closed_ ? "the end of the file" : "'['", byte);
      depth_ = 1;
      return {};
    }
    if (depth_ == 1 && (byte == ',' || byte == ']')) return end_of_element(at, byte);
    if (blank(byte)) return {};
    if (record_.line == 0) record_ = {at, 0, line_};
    last_ = at;
    in_string_ = byte == '"';
    if (byte == '{' || byte == '[') ++depth_;
    if (byte == '}' || byte == ']') --depth_;
    return {};
  }

  Result<void> finish() const {
    if (closed_) return {};
    return fail(ErrorCode::corrupt, "{}:{}: reading a JSON array: the file ends before its closing ']'", path_, line_);
  }

 private:
  Result<void> end_of_element(uint64_t, char byte) {
    closed_ = byte == ']';
    if (closed_) depth_ = 0;
    if (record_.line == 0) {
      if (closed_ && !comma_) return {};  // an empty array
      return unexpected("an element", byte);
    }
    comma_ = true;
    record_.length = last_ + 1 - record_.offset;
    return visit_(std::exchange(record_, {}));
  }

  Result<void> unexpected(std::string_view expected, char byte) const {
    return fail(ErrorCode::corrupt, "{}:{}: reading a JSON array: expected {}, found '{}'", path_, line_, expected,
                byte);
  }

  const std::string& path_;
  const std::function<Result<void>(const JsonRecord&)>& visit_;
  JsonRecord record_;  // line 0: between elements
  uint64_t last_ = 0;  // byte of the element that is not blank
  int64_t line_ = 1;
  int64_t depth_ = 0;
  bool in_string_ = false, escaped_ = false, closed_ = false, comma_ = false;
};

}  // namespace

Result<void> for_each_line(const InputFile& file, const std::function<Result<void>(const JsonRecord&)>& visit) {
  JsonRecord record{TRY(byte_order_mark(file)), 0, 1};
  bool empty = true;
  const auto end_of_line = [&](uint64_t at) -> Result<void> {
    record.length = at - record.offset;
    if (!empty) CHECK_OK(visit(record));
    record = {at + 1, 0, record.line + 1};
    empty = true;
    return {};
  };
  CHECK_OK(for_each_byte(file, [&](uint64_t at, char byte) -> Result<void> {
    if (byte == '\n') return end_of_line(at);
    empty = empty && blank(byte);
    return {};
  }));
  return end_of_line(file.size());
}

Result<void> for_each_value(const InputFile& file, const std::function<Result<void>(const JsonRecord&)>& visit) {
  ValueScanner scanner(file.path(), visit);
  CHECK_OK(for_each_byte(file, [&](uint64_t at, char byte) { return scanner.step(at, byte); }));
  return scanner.finish();
}

Result<void> for_each_element(const InputFile& file, const std::function<Result<void>(const JsonRecord&)>& visit) {
  ArrayScanner scanner(file.path(), visit);
  CHECK_OK(for_each_byte(file, [&](uint64_t at, char byte) { return scanner.step(at, byte); }));
  return scanner.finish();
}

Result<void> for_each_record(const InputFile& file, RecordForm form,
                             const std::function<Result<void>(const JsonRecord&)>& visit) {
  return form == RecordForm::array    ? for_each_element(file, visit)
         : form == RecordForm::values ? for_each_value(file, visit)
                                      : for_each_line(file, visit);
}

}  // namespace thimble
