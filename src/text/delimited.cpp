#include "text/delimited.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <vector>

#include "files/file_kind.h"
#include "text/datasets.h"
#include "text/json_output.h"

namespace thimble {
namespace {

using Names = std::array<std::string_view, 2>;
// Columns that together say what a table is, whatever it is called.
constexpr std::array kKnown{Names{"prompt", "completion"}, Names{"instruction", "output"}, Names{"question", "answer"},
                            Names{"prompt", "chosen"}, Names{"prompt", "response"}};
constexpr std::array<std::string_view, 7> kLists = {"messages", "conversations", "history", "chosen",
                                                    "rejected", "tools",         "choices"};
constexpr size_t kLongestRow = 16 << 20;

std::string_view first_line(std::string_view head) {
  if (head.starts_with("\xEF\xBB\xBF")) head.remove_prefix(3);
  head = head.substr(0, head.find('\n'));
  if (head.ends_with('\r')) head.remove_suffix(1);
  return head;
}

// Fields of a row that has no quotes, which is enough for names.
std::vector<std::string> names_in(std::string_view line, char delimiter) {
  std::vector<std::string> names;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find(delimiter, begin), line.size());
    std::string name(line.substr(begin, end - begin));
    std::erase(name, '"');
    names.push_back(std::move(name));
    begin = end + 1;
  }
  return names;
}

char most_frequent(std::string_view line) {
  constexpr std::string_view kDelimiters = ",\t;|";
  return *std::ranges::max_element(kDelimiters, {}, [&](char d) { return std::ranges::count(line, d); });
}

// A JSON object a row, written as the fields come.
class TableRows {
 public:
  TableRows(const InputFile& file, TemporaryFile& to) : path_(file.path()), to_(to) {}

  Result<void> row(const std::vector<std::string>& fields) {
    ++number_;
    if (names_.empty()) return names(fields);
    if (fields.size() == 1 && fields[0].empty()) return write("\n");  // a blank row
    if (fields.size() != names_.size())
      return fail(ErrorCode::corrupt,
                  "reading {}: row {} has {} fields, the first row names {} columns; are the quotes right?", path_,
                  number_, fields.size(), names_.size());
    std::string line = "{";
    for (const std::string& field : fields)
      if (valid_utf8(field, false) < field.size())
        return fail(ErrorCode::unsupported,
                    "reading {}: row {} is not UTF-8 text; convert the file: iconv -f LATIN1 -t UTF-8", path_, number_);
    for (size_t i = 0; i < fields.size(); ++i) {
      const bool list = fields[i].starts_with('[') && std::ranges::find(kLists, names_[i]) != kLists.end();
      line +=
          fmt::format("{}{}:{}", i > 0 ? "," : "", json_string(names_[i]), list ? fields[i] : json_string(fields[i]));
    }
    if (line.find('\n') != std::string::npos) std::ranges::replace(line, '\n', ' ');  // within a list
    return write(line + "}\n");
  }
  Result<void> flush() {
    CHECK_OK(to_.write(std::as_bytes(std::span(buffer_))));
    buffer_.clear();
    return {};
  }

 private:
  Result<void> names(const std::vector<std::string>& fields) {
    names_ = fields;
    std::set<std::string_view> seen;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i].empty()) names_[i] = fmt::format("column {}", i + 1);
      if (!seen.insert(names_[i]).second)
        return fail(ErrorCode::corrupt, "reading {}: two columns are named '{}'", path_, names_[i]);
    }
    return write("\n");
  }
  Result<void> write(std::string_view text) {
    buffer_ += text;
    return buffer_.size() < kBuffer ? Result<void>() : flush();
  }

  static constexpr size_t kBuffer = 64 << 10;
  std::string buffer_;

  const std::string& path_;
  TemporaryFile& to_;
  std::vector<std::string> names_;
  int64_t number_ = 0;
};

// Bytes to rows.
class Splitter {
 public:
  Splitter(char delimiter, TableRows& rows, const std::string& path)
      : delimiter_(delimiter), rows_(rows), path_(path) {}

  Result<void> step(char byte) {
    if (++bytes_ > kLongestRow)
      return fail(ErrorCode::corrupt, "reading {}: a row is longer than {} bytes; a quote is not closed, it seems",
                  path_, kLongestRow);
    if (quoted_) {
      if (byte == '"') return quoted_ = false, closed_ = true, Result<void>();
      fields_.back() += byte;
      return {};
    }
    if (byte == '"' && closed_) return fields_.back() += '"', quoted_ = true, closed_ = false, Result<void>();
    if (byte == '"' && fields_.back().empty()) return quoted_ = true, Result<void>();
    closed_ = false;
    if (byte == delimiter_) return fields_.emplace_back(), Result<void>();
    if (byte == '\n') return end_of_row();
    fields_.back() += byte;
    return {};
  }

  Result<void> finish() {
    if (quoted_) return fail(ErrorCode::corrupt, "reading {}: the last quote is never closed", path_);
    if (fields_.size() > 1 || !fields_[0].empty()) CHECK_OK(end_of_row());
    return rows_.flush();
  }

 private:
  Result<void> end_of_row() {
    if (fields_.back().ends_with('\r')) fields_.back().pop_back();
    CHECK_OK(rows_.row(fields_));
    fields_.assign(1, "");
    bytes_ = 0;
    return {};
  }

  char delimiter_;
  TableRows& rows_;
  const std::string& path_;
  std::vector<std::string> fields_ = {""};
  size_t bytes_ = 0;
  bool quoted_ = false, closed_ = false;  // closed_: a quote was, which a second makes one of the text
};

}  // namespace

std::optional<char> delimiter_of(const std::string& path, std::string_view head) {
  const std::string_view line = first_line(head);
  std::filesystem::path name(path);
  if (name.extension() == ".gz" || name.extension() == ".zst") name = name.stem();
  const std::string extension = name.extension().string();
  if (extension == ".tsv" || extension == ".tab") return '\t';
  if (extension == ".csv") return most_frequent(line);
  const char delimiter = most_frequent(line);
  const std::vector<std::string> names = names_in(line, delimiter);
  const auto has = [&](std::string_view one) { return std::ranges::find(names, one) != names.end(); };
  if (std::ranges::any_of(kKnown, [&](const Names& known) { return has(known[0]) && has(known[1]); })) return delimiter;
  return std::nullopt;
}

Result<InputFile> table_to_json_lines(const InputFile& file, char delimiter) {
  TemporaryFile to = TRY(TemporaryFile::create(file.path()));
  TableRows rows(file, to);
  Splitter splitter(delimiter, rows, file.path());
  std::string buffer(64 << 10, '\0');
  for (uint64_t at = TRY(byte_order_mark(file)); at < file.size(); at += buffer.size()) {
    buffer.resize(std::min<uint64_t>(buffer.size(), file.size() - at));
    CHECK_OK(file.read(at, std::as_writable_bytes(std::span(buffer))));
    for (const char byte : buffer) CHECK_OK(splitter.step(byte));
  }
  CHECK_OK(splitter.finish());
  return std::move(to).finish();
}

}  // namespace thimble
