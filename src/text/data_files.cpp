#include "text/data_files.h"

#include <glob.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "files/file.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostFiles = 100'000;

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// By name here, for a folder of data may hold other files too; what each holds is seen when it is opened.
bool is_data_name(const fs::path& path) {
  constexpr std::array kData = {".jsonl", ".ndjson", ".json", ".csv",  ".tsv",     ".txt",        ".text",
                                ".md",    ".gz",     ".zst",  ".zstd", ".parquet", ".safetensors"};
  constexpr std::array kAbout = {"readme", "license", "licence", "dataset_info", "manifest", "citation"};
  const std::string name = lower(path.filename().string()), extension = lower(path.extension().string());
  if (name.starts_with(".")) return false;
  if (std::ranges::any_of(kAbout, [&](const char* about) { return name.starts_with(about); })) return false;
  return std::ranges::find(kData, extension) != kData.end();
}

using Paths = std::vector<std::string>;

Paths of_part(const Paths& all, std::initializer_list<std::string_view> beginnings) {
  Paths found;
  std::ranges::copy_if(all, std::back_inserter(found), [&](const std::string& path) {
    const std::string name = lower(fs::path(path).filename().string());
    return std::ranges::any_of(beginnings, [&](std::string_view beginning) { return name.starts_with(beginning); });
  });
  return found;
}

Result<Paths> in_folder(const std::string& folder, DataPart part) {
  Paths all;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error)) {
    if (at->path().filename().string().starts_with(".") && at->is_directory(error)) at.disable_recursion_pending();
    if (at->is_regular_file(error) && is_data_name(at->path())) all.push_back(at->path().string());
    if (all.size() > kMostFiles)
      return fail(ErrorCode::unsupported, "--data {}: it holds more than {} files", folder, kMostFiles);
  }
  if (error) return fail(ErrorCode::io, "--data {}: listing the folder: {}", folder, error.message());
  std::ranges::sort(all);
  const Paths train = of_part(all, {"train"}), valid = of_part(all, {"valid", "dev", "val", "eval"}),
              test = of_part(all, {"test"});
  if (!train.empty() && !(valid.empty() && test.empty()))
    all = part == DataPart::train ? train : valid.empty() ? test : valid;
  if (!all.empty()) return all;
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

Result<Paths> data_files(const std::string& spec, DataPart part) {
  Paths items;
  for (const std::string& item : parts_of(spec, '\n')) {
    if (exists(item)) {
      items.push_back(item);
    } else {
      for (std::string& one : parts_of(item, ',')) items.push_back(std::move(one));
    }
  }
  Paths all;
  for (const std::string& item : items) {
    Paths found = {item};
    if (is_directory(item)) {
      found = TRY(in_folder(item, part));
    } else if (!is_file(item) && item.find_first_of("*?[") != std::string::npos) {
      found = TRY(of_pattern(item));
    }
    for (std::string& path : found) {
      if (std::ranges::find(all, path) != all.end())
        return fail(ErrorCode::invalid_argument, "--data: {} is named twice", path);
      all.push_back(std::move(path));
    }
  }
  return all;
}

}  // namespace thimble
