// The optimizer socket: how a parameter moves, given its gradient. One optimizer is one file in optimizers/ and one row
// of the table in optimizer.cpp.
//
//   states    what it keeps a parameter, so that the plan sees every byte
//   absorb    adds the gradient of one pass to what is accumulated, of a shape of its own (nullptr: their sum)
//   measure   statistics of a parameter, made before it moves (nullptr: none)
//   apply     the update
//   variants  what takes the place of these every so many steps; the plan holds all kinds of steps
// All of them emit nodes; nothing is computed here. The grain of an update is its operations': elementwise ones pass
// block by block over what waits on disk, the others see whole matrices.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "methods/option.h"

namespace thimble {

struct StateSpec {
  std::string_view name;
  Shape shape;
  const Codec* codec = &kF32;
  double initial = 0;
  int64_t reset_every = 0;  // steps after which it is `initial` again, before the update; 0: never
  bool squares = false;     // of squared gradients: in few bits its root is stored, which spans half as many decades
};

// In few bits (8-bit optimizers, Dettmers et al. 2021, arXiv:2110.02861): a near move of the planner. States of small
// parameters stay as they are.
inline constexpr int64_t kLeastEightBit = 4096;  // elements
StateSpec in_eight_bits(StateSpec state);

// One parameter's update while it is being built. What a hook writes over, it replaces by the new version.
struct Update {
  Graph& graph;
  const OptionValues& options;
  double decay;  // of this parameter, a step, times the learning rate
  ValueId parameter;
  ValueId gradient;                 // absorb: of this pass; measure and apply: as accumulated
  ValueId accumulator;              // absorb: what was accumulated before
  std::vector<ValueId> states;      // as declared
  std::vector<ValueId> statistics;  // from measure
  std::vector<ValueId> totals;      // of each statistic, summed over all parameters, where that is asked for
  ValueId learning_rate;            // f32 [1]
  ValueId step;                     // f32 [1], counted from 1
  ValueId clip;                     // f32 [1], factor of the gradient; kNone: not clipped
  std::vector<char> roots = {};     // by state: whether its root is what is stored; empty: of none
};

struct Hooks {
  ValueId (*absorb)(Update& update) = nullptr;  // returns the accumulator's new version
  std::vector<ValueId> (*measure)(Update& update) = nullptr;
  void (*apply)(Update& update) = nullptr;
};

// Another kind of step: the first pass of it, and its update, are built with these hooks, where they are given.
struct Variant {
  std::string_view name;
  int64_t (*period)(const OptionValues& options);  // steps from one to the next, beginning with the first
  Hooks hooks;
};

struct Optimizer {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  double learning_rate;  // default
  std::span<const Option> options;
  std::vector<StateSpec> (*states)(const Shape& parameter, const OptionValues& options);
  // Shape of what is accumulated, with absorb. A gradient is then absorbed a micro-batch at a time, which no budget
  // cuts: sums would be rounded elsewhere.
  Shape (*accumulator)(const Shape& parameter, const OptionValues& options) = nullptr;
  Hooks hooks;
  bool totals = false;  // apply wants them; statistics are [1]
  std::span<const Variant> variants = {};
};

std::span<const Optimizer* const> optimizers();
Result<const Optimizer*> optimizer_named(std::string_view name);

extern const Optimizer kAdamw;
extern const Optimizer kLion;
extern const Optimizer kSgd;

}  // namespace thimble
