// Architectures for models that are trained from nothing: `--size 15M`, `--architecture config.json`.
#pragma once

#include <string_view>

#include "core/result.h"
#include "models/architecture.h"

namespace thimble {

// "15M", "135m", "1.5B", "800K" or a plain number of parameters.
Result<int64_t> parse_size(std::string_view text);

// A Llama-shaped model (RMSNorm, SwiGLU, rope, tied head, grouped kv heads) of about `parameters`, embedding included.
// The same numbers always give the same architecture.
Result<Architecture> preset(int64_t parameters, int64_t vocab, int64_t context = 2048);

// As a config.json says, or that of a folder. Refuses one with fewer rows than `tokens`, and one that says labels.
Result<Architecture> architecture_like(const std::string& path, int64_t tokens);

// Parameters of a model, all of its tensors.
int64_t parameter_count(const Architecture& architecture);

}  // namespace thimble
