// Writes a model as a folder that transformers opens: config.json and model.safetensors, or shards with their index.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "models/hf_config.h"
#include "models/row_stream.h"

namespace thimble {

struct HfWriteOptions {
  // Of all weights; nullptr: as they are, where safetensors has such a dtype. With a pattern (codecs/pattern.h): of the
  // blocks' matrices, which are written as compressed-tensors does, and of all others the codec of its numbers.
  const Codec* codec = nullptr;
  int64_t shard_bytes = 5'000'000'000;
  SpecialIds ids = {};  // for config.json
};

// Makes the folder when it is missing. Interleaved q and k are put into Hugging Face's order, GPT-2 into its own names
// and layout. config.json is written last: a folder that was not finished is no model.
Result<void> write_hf_model(const std::string& folder, const Architecture& architecture,
                            std::span<const ModelTensor> tensors, const ReadRows& read,
                            const HfWriteOptions& options = {});

// What writing takes of the heap beside the vocabulary's tables.
int64_t hf_write_bytes(const Architecture& architecture);

}  // namespace thimble
