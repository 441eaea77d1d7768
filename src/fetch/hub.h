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
  std::string sha256;  // of large files; else empty
};

struct HubRepository {
  std::string endpoint, name, revision;

  // "org/name" or "name", of letters, digits, '.', '_' and '-'.
  static Result<HubRepository> parse(std::string endpoint, std::string name, std::string revision);
  std::string listing_url() const;
  std::string file_url(std::string_view file) const;
};

// The answer to listing_url(). A name that leads out of the folder refuses the whole list.
Result<std::vector<HubFile>> parse_listing(std::string_view json, const std::string& source);
// The commit that the answer is of, 40 hexadecimal digits.
Result<std::string> parse_commit(std::string_view json, const std::string& source);

// The files of a model: configuration, tokenizer, safetensors with their index; or exactly those in `wanted`, by
// their names or GGUF files by the ends of them (hub_cache.h, has_tag); or the one GGUF file of a repository that has
// no safetensors.
Result<std::vector<HubFile>> pick_files(std::span<const HubFile> files, std::span<const std::string> wanted,
                                        const std::string& source);

// Relative, without "..", control characters, backslashes or empty parts.
bool is_safe_name(std::string_view name);

}  // namespace thimble
