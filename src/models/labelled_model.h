// A model whose head is taken off for one that says labels of texts (architecture.h).
//
//   Source  transformers, ...ForSequenceClassification.from_pretrained of a model without such a head
//   Head    normal numbers of deviation 0.02, transformers' initializer_range; without a seed it is 0
#pragma once

#include <optional>

#include "models/model_source.h"

namespace thimble {

// `source` with a head for these labels, in f32; its own head is left out. Refuses a model that has labels already.
Result<std::unique_ptr<ModelSource>> with_labels(std::unique_ptr<ModelSource> source, Labels labels,
                                                 std::optional<uint64_t> seed);

}  // namespace thimble
