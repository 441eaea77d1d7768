#include "text/dataset.h"

#include <xxhash.h>

#include <array>
#include <filesystem>

#include "text/datasets.h"

namespace thimble {
namespace {

enum class Kind { lines, array, text };

// By name where the name says it, and else by the first bytes: an object, or a list of objects.
Result<Kind> kind_of(const InputFile& file) {
  const uint64_t begin = TRY(byte_order_mark(file));
  std::string head(std::min<uint64_t>(file.size() - begin, 4096), '\0');
  CHECK_OK(file.read(begin, std::as_writable_bytes(std::span(head))));
  constexpr std::string_view kBlank = " \t\r\n";
  const size_t first = head.find_first_not_of(kBlank);
  const size_t second = first == std::string::npos ? first : head.find_first_not_of(kBlank, first + 1);
  const char a = first == std::string::npos ? '\0' : head[first];
  const char b = second == std::string::npos ? '\0' : head[second];
  const std::string extension = std::filesystem::path(file.path()).extension().string();
  if (extension == ".jsonl" || extension == ".ndjson") return Kind::lines;
  if (extension == ".json") return a == '[' ? Kind::array : Kind::lines;
  if (extension == ".txt" || extension == ".md") return Kind::text;
  if (a == '{' && b == '"') return Kind::lines;
  return a == '[' && b == '{' ? Kind::array : Kind::text;
}

}  // namespace

void Dataset::add_to_fingerprint(uint64_t word) {
  fingerprint_ = XXH3_64bits_withSeed(&word, sizeof word, fingerprint_);
}

Result<uint64_t> byte_order_mark(const InputFile& file) {
  constexpr std::string_view kMark = "\xEF\xBB\xBF";
  std::array<char, kMark.size()> head{};
  if (file.size() < head.size()) return 0;
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(head))));
  return std::string_view(head.data(), head.size()) == kMark ? kMark.size() : 0;
}

Result<std::unique_ptr<Dataset>> Dataset::open(const std::string& path, Tokenizer& tokenizer,
                                               const DatasetOptions& options) {
  InputFile file = TRY(InputFile::open(path));
  const Kind kind = TRY(kind_of(file));
  auto dataset = TRY(kind == Kind::text ? open_text_windows(std::move(file), tokenizer, options)
                                        : open_json_dataset(std::move(file), kind == Kind::array, tokenizer, options));
  if (dataset->size() > 0) return dataset;
  const DatasetReport& report = dataset->report();
  return fail(
      ErrorCode::invalid_argument,
      "opening the data set {}: it has no usable example ({} bad, {} longer than the context of {} tokens, {} "
      "without a token to learn){}{}",
      path, report.bad_lines, report.too_long, options.context, report.untrained,
      report.first_errors.empty() ? "" : "; first: ", report.first_errors.empty() ? "" : report.first_errors.front());
}

}  // namespace thimble
