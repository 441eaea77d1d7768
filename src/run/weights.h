// Filling the persistent part of the arena: weights from files, fresh adapters, tables.
#pragma once

#include "core/threads.h"
#include "files/adapter.h"
#include "models/model_source.h"
#include "plan/layout.h"

namespace thimble {

// Reads every weight and parameter that the source has. Stored codecs are kept; where the layout wants another (f32
// masters of a quantised file), rows are converted through `staging`, a part of the arena that is not in use yet.
Result<void> load_weights(const ModelSource& source, const Layout& layout, std::byte* base,
                          std::span<std::byte> staging);

// A of LoRA: uniform in +-1/sqrt(in); B: zeros. The numbers depend on the seed and the name only.
void initialise_adapter(const Layout& layout, std::byte* base, uint64_t seed);

// Fresh weights of a model to be trained from scratch: normal numbers of deviation 0.02, those of projections back into
// the residual stream scaled by 1/sqrt(2 layers) (GPT-2); gains 1, biases 0.
void initialise_weights(const Architecture& architecture, const Layout& layout, std::byte* base, uint64_t seed);

Result<void> load_adapter(const LoraAdapter& adapter, const Layout& layout, std::byte* base,
                          std::span<std::byte> staging);

// Tables that hold constants (rotations).
void fill_constants(const Architecture& architecture, const Layout& layout, std::byte* base);

// A value of the layout as rows of f32, decoded.
void decode_value(const Layout::Entry& entry, const std::byte* base, int64_t first, int64_t count, float* to);

}  // namespace thimble
