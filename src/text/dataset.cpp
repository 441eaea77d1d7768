#include "text/dataset.h"

#include <xxhash.h>

#include <array>
#include <filesystem>

#include "core/count.h"
#include "files/decompress.h"
#include "text/datasets.h"
#include "text/delimited.h"
#include "text/json_records.h"
#include "text/label_field.h"

namespace thimble {
namespace {

constexpr std::string_view kBlank = " \t\r\n";
constexpr uint64_t kHead = 64 << 10;

Result<std::string> head_of(const InputFile& file) {
  const uint64_t begin = TRY(byte_order_mark(file));
  std::string head(std::min<uint64_t>(file.size() - begin, kHead), '\0');
  CHECK_OK(file.read(begin, std::as_writable_bytes(std::span(head))));
  return head;
}

// Whether the first line closes every bracket that it opens: then there is a value a line.
bool first_line_is_whole(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n' && i > 0) return depth == 0 && !in_string;
    if (in_string && c == '\\')
      ++i;
    else if (c == '"')
      in_string = !in_string;
    else if (!in_string && (c == '{' || c == '['))
      ++depth;
    else if (!in_string && (c == '}' || c == ']'))
      --depth;
  }
  return true;  // one line, or one that is longer than was looked at
}

// By the first characters; the name decides only where these may be text as well as JSON.
std::optional<RecordForm> json_form(const std::string& path, std::string_view head) {
  const size_t first = head.find_first_not_of(kBlank);
  const std::string extension = std::filesystem::path(path).extension().string();
  const bool named = extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
  if (first == std::string_view::npos) return named ? std::optional(RecordForm::lines) : std::nullopt;
  const size_t second = head.find_first_not_of(kBlank, first + 1);
  const char a = head[first], b = second == std::string_view::npos ? '\0' : head[second];
  if (a == '[' && (named ? b == '{' || b == ']' || b == '\0' : b == '{')) return RecordForm::array;
  if (!named && !(a == '{' && b == '"')) return std::nullopt;
  if (a == '{' && !first_line_is_whole(head.substr(first))) return RecordForm::values;
  return RecordForm::lines;
}

// "a.csv is read as a table (CSV), not as plain text".
std::string table_note(const std::string& path) {
  return fmt::format("{} is read as a table (CSV or TSV) whose first row names the columns, not as plain text", path);
}

bool named_binary(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  return extension == ".parquet" || extension == ".arrow" || extension == ".safetensors";
}

// A file once it is unpacked, and what it holds.
struct Content {
  InputFile file;
  const FileKind* kind;
  std::optional<RecordForm> records = {};  // nothing: plain text, or token ids
  std::string note = {};                   // what the file was taken for, where that may be a surprise
};

Result<Content> open_content(const std::string& path) {
  InputFile file = TRY(InputFile::open(path));
  const FileKind* kind = TRY(file_kind(file));
  constexpr int kMostLayers = 2;
  for (int layer = 0; kind->form == FileKind::gzip || kind->form == FileKind::zstd; ++layer) {
    if (layer == kMostLayers)
      return fail(ErrorCode::unsupported, "reading {}: it is compressed {} times and more", path, kMostLayers);
    file = TRY(decompress(file, *kind));
    kind = TRY(file_kind(file));
    if (kind->form == FileKind::safetensors)
      return fail(ErrorCode::unsupported, "reading {}: a compressed safetensors file; unpack it first", path);
  }
  if (kind->form == FileKind::refused) return refuse_kind(path, *kind);
  if (kind->form == FileKind::safetensors) return Content{std::move(file), kind};
  const std::string head = TRY(head_of(file));
  // A stray byte among JSON records makes one of them bad, not the file.
  const std::optional<RecordForm> form = json_form(path, head);
  const bool records = head.find('\0') == std::string::npos && form.has_value();
  if (kind->form == FileKind::unknown && !records) return refuse_kind(path, *kind);
  if (form) return Content{std::move(file), kind, form};
  if (named_binary(path))
    return fail(ErrorCode::corrupt,
                "reading {}: by its name it is binary, and it holds text, as a download does that has failed: '{}'",
                path, head.substr(0, std::min<size_t>(head.find('\n'), 60)));
  const auto delimiter = delimiter_of(path, head);
  if (!delimiter) return Content{std::move(file), kind};
  file = TRY(table_to_json_lines(file, *delimiter));
  return Content{std::move(file), kind, RecordForm::lines, table_note(path)};
}

}  // namespace

Result<bool> holds_records(const std::string& path) { return TRY(open_content(path)).records.has_value(); }

namespace {

std::string_view wanted_records(LossTerm term) {
  switch (term) {
    case LossTerm::pair:
      return "preference pairs, records with 'chosen' and 'rejected'";
    case LossTerm::reply:
      return "judged replies, records with 'prompt', 'completion' and 'label'";
    default:
      return "texts with labels, records with 'text' and 'label'";
  }
}

Failure no_records(const std::string& path, LossTerm term) {
  return fail(ErrorCode::invalid_argument, "reading {}: the objective learns from {}; this is no file of records", path,
              wanted_records(term));
}

Result<std::unique_ptr<Dataset>> open_file(const std::string& path, Tokenizer& tokenizer, const DatasetOptions& options,
                                           std::string& note) {
  Content content = TRY(open_content(path));
  if (!content.records && options.term != LossTerm::token) return no_records(path, options.term);
  if (content.kind->form == FileKind::safetensors) return open_token_windows(path, options);
  CHECK_OK(tokenizer.usable());
  if (!content.records) return open_text_windows(std::move(content.file), tokenizer, options);
  note = content.note;
  return open_json_dataset(std::move(content.file), *content.records, tokenizer, options);
}

// What --columns names and no record has.
std::vector<std::string> columns_without_effect(const DatasetReport& report, const DatasetOptions& options) {
  std::vector<std::string> out;
  for (const auto& [field, column] : options.columns)
    if (!report.columns.contains(field))
      out.push_back(fmt::format("--columns {}={} has no effect: no record has '{}' where '{}' would be read", field,
                                column, column, field));
  return out;
}

// "2 files are read; left out: data/test.jsonl, data/notes.txt and 3 more"
std::string left_out_note(const DataFiles& files) {
  constexpr size_t kNamed = 4;
  std::string names;
  for (size_t i = 0; i < std::min(kNamed, files.left_out.size()); ++i)
    names += fmt::format("{}{}", i == 0 ? "" : ", ", files.left_out[i]);
  if (files.left_out.size() > kNamed) names += fmt::format(" and {} more", files.left_out.size() - kNamed);
  return fmt::format("{} {} read; left out, by their names: {}", counted(files.paths.size(), "file"),
                     files.paths.size() == 1 ? "is" : "are", names);
}

Failure nothing_usable(const std::string& files, const DatasetReport& report, const DatasetOptions& options) {
  std::string unused;
  for (const auto& [field, count] : report.unused) unused += fmt::format("{}{}", unused.empty() ? "" : ", ", field);
  std::string columns;
  for (const std::string& text : columns_without_effect(report, options)) columns += "; " + text;
  return fail(
      ErrorCode::invalid_argument,
      "opening the data set {}: it has no usable example ({} bad, {} longer than the context of {} tokens, {} "
      "without anything to learn, as weight or train may say){}{}{}{}{}",
      files, report.bad_lines, report.too_long, options.context, report.untrained,
      report.first_errors.empty() ? "" : "; first: ", report.first_errors.empty() ? "" : report.first_errors.front(),
      unused.empty() ? "" : "; fields without effect: ", unused, columns);
}

}  // namespace

Result<Labels> labels_in(const std::string& files, const DatasetOptions& options) {
  LabelScan scan(options);
  const DataFiles found = TRY(data_files(files, options.part));
  for (const std::string& path : found.paths) {
    const Content content = TRY(open_content(path));
    if (!content.records) return no_records(path, LossTerm::text);
    CHECK_OK(for_each_record(content.file, *content.records,
                             [&](const JsonRecord& record) { return scan.add(content.file, record); }));
  }
  return scan.finish(files);
}

void Dataset::add_to_fingerprint(uint64_t word) {
  fingerprint_ = XXH3_64bits_withSeed(&word, sizeof word, fingerprint_);
}

Result<void> Dataset::read_rejected(int64_t index, Example&) {
  return fail(ErrorCode::invalid_argument, "reading the rejected reply of example {}: it is no preference pair", index);
}

Result<uint64_t> byte_order_mark(const InputFile& file) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  std::array<char, kMark.size()> head{};
  if (file.size() < head.size()) return 0;
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(head))));
  return std::string_view(head.data(), head.size()) == kMark ? kMark.size() : 0;
}

Result<std::unique_ptr<Dataset>> Dataset::open(const std::string& files, Tokenizer& tokenizer,
                                               const DatasetOptions& options) {
  std::vector<std::unique_ptr<Dataset>> parts;
  const DataFiles found = TRY(data_files(files, options.part));
  for (const std::string& path : found.paths) {
    std::string note;
    parts.push_back(TRY(open_file(path, tokenizer, options, note)));
    if (!note.empty()) parts.back()->report_.notes.push_back(note);
  }
  if (parts.empty()) return fail(ErrorCode::invalid_argument, "--data: it names no file");
  std::unique_ptr<Dataset> dataset = parts.size() == 1 ? std::move(parts.front()) : join_datasets(std::move(parts));
  DatasetReport& report = dataset->report_;
  if (dataset->size() == 0) return nothing_usable(files, report, options);
  for (std::string& note : columns_without_effect(report, options)) report.notes.push_back(std::move(note));
  if (!found.left_out.empty()) report.notes.push_back(left_out_note(found));
  if (report.chats == 0 && options.term == LossTerm::token && options.train_on == TrainOn::last)
    report.notes.emplace_back("--train-on last has no effect: there is no chat");
  if (report.chats == 0 && !options.chat.chosen.empty())
    report.notes.push_back(fmt::format("--chat-template {} has no effect: there is no chat", options.chat.chosen));
  return dataset;
}

}  // namespace thimble
