// A model whose embedding and head are one matrix, with a head of its own: for adapters that have copies of the two.
//
//   Source  PEFT, modules_to_save of a tied model: each module that is named gets a copy, the other stays the model's
#pragma once

#include "models/model_source.h"

namespace thimble {

// `source` with a head that begins as its embedding, in the same codec; a model whose head is its own stays as it is.
std::unique_ptr<ModelSource> with_own_head(std::unique_ptr<ModelSource> source);

}  // namespace thimble
