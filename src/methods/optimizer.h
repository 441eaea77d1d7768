// The optimizer socket: how a parameter moves, given its gradient. One optimizer is one file in optimizers/ and one row
// of the table in optimizer.cpp.
//
//   states   what it keeps a parameter, so that the plan sees every byte
//   absorb   turns a gradient into what is accumulated over micro-batches (nullptr: the gradient itself)
//   measure  statistics over rows, columns, a tensor or all tensors, made before any parameter moves (nullptr: none)
//   apply    the update, as graph nodes
// All of them emit nodes; nothing is computed here.
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
  bool squares = false;  // of squared gradients: in few bits its root is stored, which spans half as many decades
};

// In few bits (8-bit optimizers, Dettmers et al. 2021, arXiv:2110.02861): a near move of the planner. States of small
// parameters stay as they are.
inline constexpr int64_t kLeastEightBit = 4096;  // elements
StateSpec in_eight_bits(StateSpec state);

// One parameter's update while it is being built.
struct Update {
  Graph& graph;
  const OptionValues& options;
  double decay;  // of this parameter, a step, times the learning rate
  ValueId parameter;
  ValueId gradient;                 // as accumulated
  std::vector<ValueId> states;      // as declared
  std::vector<ValueId> statistics;  // from measure
  ValueId learning_rate;            // f32 [1]
  ValueId step;                     // f32 [1], counted from 1
  ValueId clip;                     // f32 [1], factor of the gradient; kNone: not clipped
  std::vector<char> roots = {};     // by state: whether its root is what is stored; empty: of none
};

struct Optimizer {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  double learning_rate;  // default
  std::span<const Option> options;
  std::vector<StateSpec> (*states)(const Shape& parameter, const OptionValues& options);
  ValueId (*absorb)(Graph& graph, ValueId gradient, const OptionValues& options) = nullptr;
  std::vector<ValueId> (*measure)(Update& update) = nullptr;
  void (*apply)(Update& update);
};

std::span<const Optimizer* const> optimizers();
Result<const Optimizer*> optimizer_named(std::string_view name);

extern const Optimizer kAdamw;
extern const Optimizer kLion;
extern const Optimizer kSgd;

}  // namespace thimble
