// The cache that Hugging Face's own tools keep of repositories, read and written in their layout:
//
//   HUB/models--org--name/refs/main            the commit that "main" was when it was fetched
//   HUB/models--org--name/snapshots/COMMIT/    the repository's files, or links to them
//
//   Source  huggingface_hub, constants.py and file_download.py
//   Choice  what is fetched lies in the snapshot itself, as those tools do it where a disk has no links
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

// As HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HF_ENDPOINT say.
std::string hub_cache_folder();
std::string hub_endpoint();
// HF_TOKEN, or the file that HF_TOKEN_PATH or HF_HOME names; empty where there is none.
Result<std::string> hub_token();

// "org/name" or "org/name:file".
struct HubName {
  std::string repository;
  std::string file;  // a file of it, or the end of one's name: "Q4_K_M"
};
// Nothing where the text names something on this machine: a file or folder that is there, or one in a folder that is.
std::optional<HubName> hub_name(const std::string& text);

// The folder of a snapshot; its parents need not be there.
std::string snapshot_folder(const std::string& cache, std::string_view repository, std::string_view commit);
// What the cache has of the branch "main": the folder of a whole model, or a GGUF file. Nothing where it is not there.
std::optional<std::string> find_cached(const std::string& cache, const HubName& name);
Result<void> write_ref(const std::string& cache, std::string_view repository, std::string_view revision,
                       std::string_view commit);

// Whether a GGUF file is the one that a tag means: "model-Q4_K_M.gguf", "m.Q4_K_M-00001-of-00002.gguf".
bool has_tag(std::string_view file, std::string_view tag);

}  // namespace thimble
