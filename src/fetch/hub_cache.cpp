#include "fetch/hub_cache.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "fetch/hub.h"
#include "files/file.h"
#include "files/json.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
  const char* const value = std::getenv(name);
  return value ? value : "";
}

std::string hub_home() {
  if (std::string home = variable("HF_HOME"); !home.empty()) return home;
  const std::string cache = variable("XDG_CACHE_HOME");
  return (cache.empty() ? variable("HOME") + "/.cache" : cache) + "/huggingface";
}

fs::path repository_folder(const std::string& cache, std::string_view repository) {
  std::string name = "models--";
  for (const char c : repository) name += c == '/' ? std::string("--") : std::string(1, c);
  return fs::path(cache) / name;
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// config.json with all the weights that are named.
bool is_whole_model(const fs::path& folder) {
  if (!is_file((folder / "config.json").string())) return false;
  if (is_file((folder / "model.safetensors").string())) return true;
  const fs::path index = folder / "model.safetensors.index.json";
  if (!is_file(index.string())) return false;
  const auto json = read_json_file(index.string(), 64u << 20);
  if (!json || !json->is_object() || !json->contains("weight_map") || !(*json)["weight_map"].is_object()) return false;
  return std::ranges::all_of((*json)["weight_map"], [&](const Json& file) {
    return file.is_string() && is_safe_name(file.get<std::string>()) &&
           is_file((folder / file.get<std::string>()).string());
  });
}

// The GGUF files of a snapshot, sorted; of a split model the first.
std::vector<std::string> gguf_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (fs::recursive_directory_iterator at(folder, ignored), end; at != end; at.increment(ignored)) {
    const std::string name = fs::relative(at->path(), folder, ignored).string();
    const bool later_part = name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
    if (name.ends_with(".gguf") && !later_part && is_file(at->path().string())) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

}  // namespace

std::string hub_cache_folder() {
  const std::string cache = variable("HF_HUB_CACHE");
  return cache.empty() ? hub_home() + "/hub" : cache;
}

std::string hub_endpoint() {
  const std::string endpoint = variable("HF_ENDPOINT");
  return endpoint.empty() ? "https://huggingface.co" : endpoint;
}

Result<std::string> hub_token() {
  std::string token = variable("HF_TOKEN"), path = variable("HF_TOKEN_PATH");
  if (path.empty()) path = hub_home() + "/token";
  if (token.empty() && is_file(path)) token = TRY(read_text_file(path, 4096));
  while (!token.empty() && static_cast<unsigned char>(token.back()) <= 32) token.pop_back();
  if (std::ranges::all_of(token, [](char c) { return c > 32 && c < 127; })) return token;
  return fail(ErrorCode::invalid_argument, "HF_TOKEN, or {}: expected one access token", path);
}

std::optional<HubName> hub_name(const std::string& text) {
  const size_t colon = text.find(':');
  HubName name{text.substr(0, colon), colon == std::string::npos ? "" : text.substr(colon + 1)};
  const size_t slash = name.repository.find('/');
  if (slash == std::string::npos || slash == 0 || is_file(text) || is_directory(text)) return std::nullopt;
  if (is_directory(name.repository.substr(0, slash)) || name.repository.starts_with('.')) return std::nullopt;
  for (const char* end : {".gguf", ".bin", ".safetensors", ".json"})
    if (name.repository.ends_with(end)) return std::nullopt;
  if (!HubRepository::parse("https://-", name.repository, "main")) return std::nullopt;
  if (colon != std::string::npos && !is_safe_name(name.file)) return std::nullopt;
  return name;
}

std::string snapshot_folder(const std::string& cache, std::string_view repository, std::string_view commit) {
  return (repository_folder(cache, repository) / "snapshots" / commit).string();
}

std::optional<std::string> find_cached(const std::string& cache, const HubName& name) {
  const fs::path ref = repository_folder(cache, name.repository) / "refs" / "main";
  const auto commit = read_text_file(ref.string(), 64);
  if (!commit || !is_commit(*commit)) return std::nullopt;
  const fs::path folder = snapshot_folder(cache, name.repository, *commit);
  if (name.file.empty() && is_whole_model(folder)) return folder.string();
  if (!name.file.empty() && is_file((folder / name.file).string())) return (folder / name.file).string();
  std::vector<std::string> files = gguf_files(folder);
  std::erase_if(files, [&](const std::string& file) { return !name.file.empty() && !has_tag(file, name.file); });
  if (files.size() != 1) return std::nullopt;
  return (folder / files.front()).string();
}

Result<void> write_ref(const std::string& cache, std::string_view repository, std::string_view revision,
                       std::string_view commit) {
  const fs::path ref = repository_folder(cache, repository) / "refs" / revision;
  CHECK_OK(make_directories(ref.parent_path().string()));
  return write_text_file(ref.string(), std::string(commit));
}

bool has_tag(std::string_view file, std::string_view tag) {
  if (!file.ends_with(".gguf")) return false;
  file.remove_suffix(std::string_view(".gguf").size());
  constexpr size_t kPart = std::string_view("-00001-of-00002").size();
  if (file.size() > kPart && file.substr(file.size() - kPart).find("-of-") != std::string_view::npos)
    file.remove_suffix(kPart);
  if (file.size() <= tag.size()) return false;
  const char before = file[file.size() - tag.size() - 1];
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b));
  };
  return (before == '-' || before == '.' || before == '_' || before == '/') &&
         std::ranges::equal(file.substr(file.size() - tag.size()), tag, same);
}

}  // namespace thimble
