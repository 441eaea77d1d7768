// A model with rows appended for the tokens of a larger tokenizer.
//
//   Source  transformers, resize_token_embeddings with mean_resizing (Hewitt 2021, "Initializing New Word Embeddings
//           for Pretrained Language Models")
//   Choice  a new row of the embedding, and of a head of its own, is the mean of the rows there are. transformers draws
//           it from a normal distribution around that mean with 1e-9 of their covariance, which is left out: all new
//           rows are the same until they are trained
#pragma once

#include "models/model_source.h"

namespace thimble {

// `source` with `vocab` rows, more than it has. Reads the whole embedding and head once. unsupported: a codec that
// thimble does not write holds them.
Result<std::unique_ptr<ModelSource>> with_rows(std::unique_ptr<ModelSource> source, int64_t vocab);

}  // namespace thimble
