#include "fetch/hub.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/nearest.h"
#include "fetch/hub_cache.h"
#include "files/json.h"

namespace thimble {
namespace {

// Beside the weights.
constexpr std::array<std::string_view, 12> kSmallFiles = {
    "config.json",     "generation_config.json",  "tokenizer.json",     "tokenizer_config.json",
    "tokenizer.model", "special_tokens_map.json", "added_tokens.json",  "vocab.json",
    "merges.txt",      "chat_template.jinja",     "chat_template.json", "model.safetensors.index.json"};

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-'; }

// RFC 3986; `kept` stay too.
std::string percent_encoded(std::string_view text, std::string_view kept) {
  std::string out;
  for (char c : text) {
    if (is_word(c) || c == '~' || kept.find(c) != std::string_view::npos)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

// "model-00001-of-00002.safetensors"
bool is_shard(std::string_view name) {
  return name.starts_with("model-") && name.ends_with(".safetensors") && name.find("-of-") != std::string_view::npos &&
         name.find('/') == std::string_view::npos;
}

const HubFile* find(std::span<const HubFile> files, std::string_view name) {
  const auto found = std::find_if(files.begin(), files.end(), [&](const HubFile& f) { return f.name == name; });
  return found == files.end() ? nullptr : &*found;
}

bool is_hex(std::string_view text, size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

Result<HubFile> parse_file(const JsonFields& fields) {
  HubFile file{.name = TRY(fields.get<std::string>("rfilename"))};
  if (!is_safe_name(file.name)) {
    return fail(ErrorCode::corrupt,
                "reading {}: the server lists '{}', which is no safe name of a file; nothing is fetched",
                fields.source(), file.name.substr(0, 100));
  }
  const auto size = [&](const JsonFields& of) -> Result<void> {
    if (!of.has("size")) return {};
    const int64_t bytes = TRY(of.get<int64_t>("size"));
    if (bytes < 0) return fail(ErrorCode::corrupt, "reading {}: '{}' has size {}", fields.source(), file.name, bytes);
    file.bytes = static_cast<uint64_t>(bytes);
    return {};
  };
  CHECK_OK(size(fields));
  if (!fields.has("lfs")) {
    file.git_blob = TRY(fields.get_or<std::string>("blobId", ""));
    if (!file.git_blob.empty() && !is_hex(file.git_blob, 40))
      return fail(ErrorCode::corrupt, "reading {}: blobId of '{}' is no git object", fields.source(), file.name);
    return file;
  }
  const JsonFields lfs = TRY(fields.object("lfs"));
  CHECK_OK(size(lfs));
  file.sha256 = TRY(lfs.get_or<std::string>("sha256", ""));
  std::transform(file.sha256.begin(), file.sha256.end(), file.sha256.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (!file.sha256.empty() && !is_hex(file.sha256, 64)) {
    return fail(ErrorCode::corrupt, "reading {}: lfs.sha256 of '{}' is no SHA-256", fields.source(), file.name);
  }
  return file;
}

Result<std::vector<HubFile>> pick_named(std::span<const HubFile> files, std::span<const std::string> wanted,
                                        const std::string& source) {
  std::vector<HubFile> picked;
  std::vector<std::string> names;
  for (const HubFile& file : files) names.push_back(file.name);
  for (const std::string& name : wanted) {
    const HubFile* file = find(files, name);
    if (!file) {
      const size_t before = picked.size();
      std::ranges::copy_if(files, std::back_inserter(picked),
                           [&](const HubFile& tagged) { return has_tag(tagged.name, name); });
      if (picked.size() > before) continue;
      return fail(ErrorCode::invalid_argument, "--file {}: {} has no such file; the nearest are {}", name, source,
                  nearest_names(name, names));
    }
    picked.push_back(*file);
  }
  return picked;
}

Result<std::vector<HubFile>> pick_gguf(std::span<const HubFile> files, const std::string& source) {
  std::vector<HubFile> found;
  std::string names;
  for (const HubFile& file : files) {
    if (!file.name.ends_with(".gguf")) continue;
    found.push_back(file);
    names += (names.empty() ? "" : ", ") + file.name;
  }
  if (found.size() == 1) return found;
  if (found.empty()) {
    return fail(ErrorCode::unsupported, "{} holds no safetensors and no GGUF file, which are what thimble reads",
                source);
  }
  return fail(ErrorCode::invalid_argument, "{} holds several GGUF files: {}; choose one with --file", source, names);
}

}  // namespace

Result<HubRepository> HubRepository::parse(std::string endpoint, std::string name, std::string revision) {
  while (endpoint.ends_with('/')) endpoint.pop_back();
  if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://")) {
    return fail(ErrorCode::invalid_argument, "--endpoint: expected http://... or https://..., found '{}'", endpoint);
  }
  if (endpoint.find('@') != std::string::npos)
    return fail(ErrorCode::invalid_argument,
                "--endpoint: an address that holds a name or password is not taken; give a token with --token FILE");
  const bool plain = std::all_of(name.begin(), name.end(), [](char c) { return is_word(c) || c == '/'; });
  if (!plain || !is_safe_name(name) || std::count(name.begin(), name.end(), '/') > 1) {
    return fail(ErrorCode::invalid_argument,
                "expected a model as org/name, of letters, digits, '.', '_' and '-'; found '{}'", name);
  }
  if (revision.empty())
    return fail(ErrorCode::invalid_argument, "--revision: expected a branch, tag or commit, found nothing");
  return HubRepository{std::move(endpoint), std::move(name), std::move(revision)};
}

std::string HubRepository::listing_url() const {
  return fmt::format("{}/api/models/{}/revision/{}?blobs=true", endpoint, name, percent_encoded(revision, ""));
}

std::string HubRepository::file_url(std::string_view file, const std::string& commit) const {
  return fmt::format("{}/{}/resolve/{}/{}", endpoint, name, percent_encoded(commit.empty() ? revision : commit, ""),
                     percent_encoded(file, "/"));
}

bool is_private(std::string_view url) {
  if (url.starts_with("https://")) return true;
  if (!url.starts_with("http://")) return false;
  std::string_view host = url.substr(7, url.find('/', 7) - std::min<size_t>(7, url.size()));
  if (host.find('@') != std::string_view::npos) return false;  // what is before it is no host
  if (host.starts_with("[::1]")) return true;
  host = host.substr(0, host.find(':'));
  return host == "localhost" || host == "127.0.0.1";
}

bool is_safe_name(std::string_view name) {
  if (name.empty() || name.size() > 512) return false;
  const auto odd = [](char c) { return static_cast<unsigned char>(c) < 32 || c == 127 || c == '\\' || c == ':'; };
  if (std::any_of(name.begin(), name.end(), odd)) return false;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > 200) return false;
    begin = end + 1;
  }
  return true;
}

Result<HubListing> parse_listing(std::string_view text, const std::string& source) {
  const Json json = TRY(parse_json(text, source));
  const JsonFields fields = TRY(JsonFields::of(json, source));
  const Json* siblings = fields.find("siblings");
  if (!siblings || !siblings->is_array()) {
    return fail(ErrorCode::corrupt, "reading {}: expected a list 'siblings' of the repository's files", source);
  }
  HubListing listing{.files = {}, .commit = TRY(fields.get_or<std::string>("sha", ""))};
  if (!listing.commit.empty() && !is_hex(listing.commit, 40))
    return fail(ErrorCode::corrupt, "reading {}: its 'sha' is no commit", source);
  std::unordered_set<std::string> names;
  for (const Json& sibling : *siblings) {
    const JsonFields entry = TRY(JsonFields::of(sibling, source));
    HubFile file = TRY(parse_file(entry));
    if (!names.insert(file.name).second)
      return fail(ErrorCode::corrupt, "reading {}: '{}' is listed twice", source, file.name);
    listing.files.push_back(std::move(file));
  }
  return listing;
}

Result<std::vector<HubFile>> pick_files(std::span<const HubFile> files, std::span<const std::string> wanted,
                                        const std::string& source) {
  if (!wanted.empty()) return pick_named(files, wanted, source);
  const bool single = find(files, "model.safetensors") != nullptr;
  const bool sharded = !single && find(files, "model.safetensors.index.json") != nullptr;
  if (!single && !sharded) return pick_gguf(files, source);
  std::vector<HubFile> picked;
  for (const HubFile& file : files) {
    const bool small = std::find(kSmallFiles.begin(), kSmallFiles.end(), file.name) != kSmallFiles.end();
    const bool weights = single ? file.name == "model.safetensors" : is_shard(file.name);
    if (weights || (small && !(single && file.name == "model.safetensors.index.json"))) picked.push_back(file);
  }
  if (find(picked, "config.json")) return picked;
  return fail(ErrorCode::unsupported, "{} has weights but no config.json, so that it is no model of transformers",
              source);
}

}  // namespace thimble
