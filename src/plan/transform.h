// A transform of a whole model within a budget: the programs that gather statistics block by block and make the new
// weights, and the plan of their memory.
//
// With an observer, the calibration text goes through the model one block at a time, and its residual stream waits in
// the arena between them:
//
//   embed    ids to the stream that the first block reads; its table holds the rows of one pass
//   observe  a block's inputs to its layers' statistics
//   apply    a layer's weight and statistic to its new weight, which takes the old one's place
//   replay   the stream through the new block, for the next one
//
// Without an observer, or with statistics that are known already, there is `apply` alone. Blocks share the memory of
// their weights, which bear the names of the first block's; those that are alike share programs. A pass holds whole
// granules whatever the budget, so that statistics have the same bits at every budget.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "methods/transform.h"
#include "plan/inference.h"

namespace thimble {

struct TransformSpec {
  Architecture architecture;
  // Codec in which a weight is stored; nullptr when there is none of that name.
  std::function<const Codec*(const std::string& name)> stored;
  const Transform* transform = nullptr;
  TransformSettings settings;
  // Codec of the new weight of a layer of this shape; nullptr: it stays as it is.
  std::function<const Codec*(const Shape& shape)> written;
  // Fills the statistic of a layer, where statistics are known already; nullptr: the transform's observer gathers them.
  std::function<Result<void>(const TensorSpec& layer, std::span<float> to)> statistic;
  bool observes() const { return transform->observer && !statistic; }
  const Codec* activation = &kBf16;
  Multiply multiply = Multiply::f32;
  int threads = 1;
  int64_t samples = 128;      // sequences of the calibration text
  int64_t context = 512;      // tokens of a sequence, at most
  int64_t budget_bytes = 0;   // of the whole process; 0: none
  int64_t runtime_bytes = 0;  // of the process without the arena
};

// What makes the new weight of a layer.
struct LayerProgram {
  std::string weight;     // of the arena, f32
  std::string statistic;  // of the arena; "": none
  std::string result;     // of the arena, in `codec`
  const Codec* codec = nullptr;
  size_t program = 0;
};

struct TransformPlan : Plan {
  // By a layer's weight: its name in the first block, or where nothing is observed its shape. A layer without one stays
  // as it is.
  std::map<std::string, LayerProgram> layers;
  // With an observer.
  size_t embed = 0;
  struct Kind {
    size_t observe = 0, replay = 0;  // programs
  };
  std::vector<Kind> kinds;      // of blocks
  std::vector<size_t> kind_of;  // by block
  int64_t pass_rows = 0;        // at once, at most
  int64_t stream_rows = 0;      // of all samples, at most
};

inline constexpr const char* kStream = "calibration.stream";        // activation [stream_rows, width]
inline constexpr const char* kPositions = "calibration.positions";  // i32 [stream_rows]
inline constexpr const char* kStarts = "calibration.starts";        // i32 [stream_rows], within a pass

// The linear layers of all blocks, in order: what transforms change.
std::vector<TensorSpec> layer_weights(const Architecture& architecture);
// A block's tensor under its name in the first block, "model.layers.0.mlp.up_proj.weight"; "" where it is of none.
std::string in_first_block(const std::string& tensor);

// over_budget with the smallest budget that would do.
Result<TransformPlan> plan_transform(const TransformSpec& spec);

}  // namespace thimble
