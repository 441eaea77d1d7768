#include "text/data_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <set>

#include "files/file.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFiles = 100'000;

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

using Paths = std::vector<std::string>;

// "x.jsonl.gz" is of .jsonl.
std::string inner_extension(const fs::path& path) {
  const std::string extension = lower(path.extension().string());
  const bool packed = extension == ".gz" || extension == ".zst" || extension == ".zstd";
  return packed && path.stem().has_extension() ? lower(path.stem().extension().string()) : extension;
}

bool is_text_name(const fs::path& path) {
  constexpr std::array kTexts = {".txt", ".text", ".md"};
  return std::ranges::find(kTexts, inner_extension(path)) != kTexts.end();
}

// By name here, for a folder of data may hold other files too; what each holds is seen when it is opened.
bool is_data_name(const fs::path& path) {
  constexpr std::array kData = {".jsonl", ".ndjson", ".json", ".csv",     ".tsv",
                                ".gz",    ".zst",    ".zstd", ".parquet", ".safetensors"};
  constexpr std::array kAbout = {"readme",  "license", "licence",   "dataset_info", "manifest", "citation",
                                 "copying", "notice",  "changelog", "requirements", "authors",  "contributing"};
  const std::string name = lower(path.filename().string());
  if (name.starts_with(".")) return false;
  if (std::ranges::any_of(kAbout, [&](const char* about) { return name.starts_with(about); })) return false;
  return is_text_name(path) || std::ranges::find(kData, lower(path.extension().string())) != kData.end();
}

enum class Split { none, train, valid, test };

Split split_of_word(std::string_view word) {
  constexpr auto kWords = std::to_array<std::pair<std::string_view, Split>>({{"train", Split::train},
                                                                             {"training", Split::train},
                                                                             {"valid", Split::valid},
                                                                             {"validation", Split::valid},
                                                                             {"val", Split::valid},
                                                                             {"dev", Split::valid},
                                                                             {"eval", Split::valid},
                                                                             {"evaluation", Split::valid},
                                                                             {"test", Split::test},
                                                                             {"testing", Split::test}});
  const auto found = std::ranges::find(kWords, word, &std::pair<std::string_view, Split>::first);
  return found == kWords.end() ? Split::none : found->second;
}

// As Hugging Face's hub tells the files of a data set: by a word of the name, or else of a folder's above it. Numbers
// may follow at once ("train0").
Split split_of(const fs::path& relative) {
  const fs::path folders = relative.parent_path();
  for (const std::string& part : {lower(relative.filename().string()), lower(folders.string())})
    for (size_t at = 0; at < part.size();) {
      const auto is_letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
      const size_t begin = static_cast<size_t>(
          std::find_if(part.begin() + static_cast<std::ptrdiff_t>(at), part.end(), is_letter) - part.begin());
      at = static_cast<size_t>(
          std::find_if_not(part.begin() + static_cast<std::ptrdiff_t>(begin), part.end(), is_letter) - part.begin());
      if (const Split split = split_of_word(std::string_view(part).substr(begin, at - begin)); split != Split::none)
        return split;
    }
  return Split::none;
}

// Leaves the files of one part; those of others, and texts beside files of records, are left out.
void choose(const std::string& folder, DataPart part, DataFiles& files) {
  const auto keep = [&](auto&& wanted) {
    const auto others = std::stable_partition(files.paths.begin(), files.paths.end(), wanted);
    files.left_out.insert(files.left_out.end(), others, files.paths.end());
    files.paths.erase(others, files.paths.end());
  };
  const auto split = [&](const std::string& path) { return split_of(fs::path(path).lexically_relative(folder)); };
  const auto has = [&](Split wanted) {
    return std::ranges::any_of(files.paths, [&](const std::string& path) { return split(path) == wanted; });
  };
  const bool valid = has(Split::valid);
  if (has(Split::train) && (valid || has(Split::test))) {
    const Split wanted = part == DataPart::train ? Split::train : valid ? Split::valid : Split::test;
    keep([&](const std::string& path) { return split(path) == wanted; });
  }
  const auto is_record_name = [](const std::string& path) { return !is_text_name(path); };
  if (std::ranges::any_of(files.paths, is_record_name)) keep(is_record_name);
}

Result<DataFiles> in_folder(const std::string& folder, DataPart part) {
  DataFiles files;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error)) {
    if (at->path().filename().string().starts_with(".") && at->is_directory(error)) at.disable_recursion_pending();
    if (at->is_regular_file(error) && is_data_name(at->path())) files.paths.push_back(at->path().string());
    if (files.paths.size() > kMostFiles)
      return fail(ErrorCode::unsupported, "--data {}: it holds more than {} files", folder, kMostFiles);
  }
  if (error) return fail(ErrorCode::io, "--data {}: listing the folder: {}", folder, error.message());
  std::ranges::sort(files.paths);
  choose(folder, part, files);
  if (!files.paths.empty()) return files;
  return fail(ErrorCode::invalid_argument,
              "--data {}: the folder holds no file of data (.jsonl, .json, .csv, .tsv, .txt, .md, .safetensors, or one "
              "of these compressed by gzip or zstd)",
              folder);
}

Result<Paths> of_pattern(const std::string& pattern) {
  glob_t found{};
  const int status = glob(pattern.c_str(), GLOB_TILDE, nullptr, &found);
  Paths paths;
  for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i)
    if (is_file(found.gl_pathv[i])) paths.emplace_back(found.gl_pathv[i]);
  globfree(&found);
  if (!paths.empty()) return paths;
  return fail(ErrorCode::invalid_argument, "--data {}: no file has a name of this pattern", pattern);
}

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    if (end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

bool exists(const std::string& path) { return is_file(path) || is_directory(path); }

}  // namespace

Result<DataFiles> data_files(const std::string& spec, DataPart part) {
  Paths items;
  for (const std::string& item : parts_of(spec, '\n')) {
    if (exists(item)) {
      items.push_back(item);
    } else {
      for (std::string& one : parts_of(item, ',')) items.push_back(std::move(one));
    }
  }
  DataFiles all;
  std::set<fs::path> named;
  for (const std::string& item : items) {
    DataFiles found{.paths = {item}, .left_out = {}};
    if (is_directory(item)) {
      found = TRY(in_folder(item, part));
    } else if (!is_file(item) && item.find_first_of("*?[") != std::string::npos) {
      found.paths = TRY(of_pattern(item));
    }
    for (std::string& path : found.paths) {
      if (!named.insert(fs::path(path).lexically_normal()).second)
        return fail(ErrorCode::invalid_argument, "--data: {} is named twice", path);
      all.paths.push_back(std::move(path));
    }
    all.left_out.insert(all.left_out.end(), found.left_out.begin(), found.left_out.end());
  }
  return all;
}

}  // namespace thimble
