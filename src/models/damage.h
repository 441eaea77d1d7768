// Numbers that are no numbers: a weight that is NaN or infinite, or one that a codec cannot hold. Whatever computes
// with such a weight gives nonsense, and quantising may hide it, so it is an error that names the tensor and its row.
#pragma once

#include <optional>
#include <string>

#include "models/model_source.h"

namespace thimble {

// `row`: as read, before it is written anywhere. corrupt: the model, or an adapter merged into it, is damaged.
Result<void> check_finite(const ModelTensor& tensor, int64_t row, std::span<const float> numbers);
// `encoded`: the row as `codec` holds it; it was finite before. `scratch` has room for the row.
// unsupported: a number, or the scale of its block, is beyond what the codec holds, or too many are not zero for its
// pattern.
Result<void> check_fits(const ModelTensor& tensor, int64_t row, std::span<const float> numbers, const Codec& codec,
                        const std::byte* encoded, std::span<float> scratch);

// The first weight of the whole model that is not finite, in words; nothing when all are. Reads every tensor.
Result<std::optional<std::string>> find_damage(const ModelSource& source);

}  // namespace thimble
