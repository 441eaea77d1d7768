// The graph of a model: from an architecture as data to values and operations.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "models/architecture.h"

namespace thimble {

enum class Purpose {
  train,     // loss and its gradient with respect to the last hidden state
  evaluate,  // loss a row
  logits,    // logits of all rows
  fill,      // nothing but keys and values in the cache; what serves neither is left to prune()
  generate,  // logits of selected rows, over a cache of keys and values
};

struct BuildOptions {
  Purpose purpose = Purpose::train;
  std::string prefix;                // of the names of inputs and results: "train.ids"
  int64_t rows = 512;                // tokens at once, at most
  int64_t selected = 1;              // generate: rows whose logits are wanted, at most
  int64_t slots = 1;                 // generate, fill: sequences
  int64_t positions = 512;           // longest sequence (of the cache, of the table of rotations)
  bool narrow = false;               // few rows: all products through kernels/narrow.h
  bool int8 = false;                 // those with weights in int8 formats go there however many rows there are
  bool keep_logits = false;          // train: for the gradient of the head, instead of making them twice
  float negligible = 0;              // train: of the head's gradients, what is left out (CrossEntropyAttributes)
  const Codec* activation = &kBf16;  // rounding of activations
  const Codec* cache = &kBf16;
  // Codec of a weight as the plan holds it, and whether it is frozen or trained. nullptr: there is no such weight.
  std::function<const Codec*(const std::string& name, const Shape& shape)> codec;
  Role role = Role::weight;  // of the model's weights
};

struct ModelGraph {
  Graph graph;
  // Inputs (i32) and results; kNone where the purpose has none.
  ValueId ids = kNone, positions = kNone, starts = kNone, targets = kNone, slots = kNone, select = kNone;
  ValueId scale = kNone;                // f32 [1]: what the sum of losses is multiplied with
  ValueId nll = kNone, logits = kNone;  // f32 [rows], f32 [selected, vocab]
};

Result<ModelGraph> build_model(const Architecture& architecture, const BuildOptions& options);

// cos and sin of every position and frequency, [positions, head_dim] as (cos, sin) pairs.
Initial rope_table(const Architecture& architecture);

}  // namespace thimble
