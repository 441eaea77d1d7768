// Models on a server with Hugging Face's layout: what a repository holds, and which of it a model needs. Everything a
// server says is untrusted, names of files above all.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble {

struct HubFile {
  std::string name;  // relative, "config.json" or "gguf/model.gguf"
  std::optional<uint64_t> bytes;
  std::string sha256;    // of large files; else empty
  std::string git_blob;  // SHA-1 as git has it, of the others; empty where the server does not say
};

struct HubListing {
  std::vector<HubFile> files;
  std::string commit;  // that the list is of; empty where the server does not say
};

struct HubRepository {
  std::string endpoint, name, revision;

  // "org/name" or "name", of letters, digits, '.', '_' and '-'.
  static Result<HubRepository> parse(std::string endpoint, std::string name, std::string revision);
  std::string listing_url() const;
  // Of that commit, so that all files are of one version; where it is not known, of `revision`.
  std::string file_url(std::string_view file, const std::string& commit = "") const;
};

// The answer to listing_url(). A name that leads out of the folder refuses the whole list.
Result<HubListing> parse_listing(std::string_view json, const std::string& source);

// The files of a model: configuration, tokenizer, safetensors with their index; or exactly those in `wanted`, by
// their names or GGUF files by the ends of them (hub_cache.h, has_tag); or the one GGUF file of a repository that has
// no safetensors.
Result<std::vector<HubFile>> pick_files(std::span<const HubFile> files, std::span<const std::string> wanted,
                                        const std::string& source);

// Whether a token may be sent to that address: over HTTPS, or to this machine.
bool is_private(std::string_view url);

// Relative, without "..", control characters, backslashes or empty parts.
bool is_safe_name(std::string_view name);

}  // namespace thimble
