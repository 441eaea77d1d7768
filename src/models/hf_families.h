// What transformers takes for granted in each family of models: the table behind reading and writing config.json.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "models/architecture.h"

namespace thimble {

// Defaults for fields that a config.json leaves out (transformers' own).
struct HfFamily {
  enum class Window { never, always, on_request };
  std::string_view name;  // model_type
  std::string_view model_class;
  int64_t kv_heads = 0;  // 0: as many as heads
  int64_t context = 0;
  int64_t head_dim = 0;  // 0: width / heads
  bool qkv_bias = false;
  bool qk_norm = false;
  Window window = Window::never;
};

std::span<const HfFamily> hf_families();
const HfFamily* find_hf_family(std::string_view name);

struct HfActivation {
  std::string_view name;
  bool gated;
  Architecture::Ffn ffn;
};

// The first row of an activation has the name that is written.
std::span<const HfActivation> hf_activations();

}  // namespace thimble
