// The optimizer socket: how a parameter moves, given its gradient. One optimizer is one file in optimizers/ and one row
// of the table in optimizer.cpp.
//
//   states    what it keeps a parameter, so that the plan sees every byte
//   absorb    adds the gradient of one pass to what is accumulated, of a shape of its own (nullptr: their sum)
//   measure   statistics of a parameter, made before it moves (nullptr: none); where none is made in a kind of step,
//             there are no totals in it
//   apply     the update
//   curvature what becomes of the gradient of the loss of labels that the model draws by itself, after the step
//   periods   steps at which the hooks build something else; the plan holds every kind of step
// All of them emit nodes; nothing is computed here. The grain of an update is its operations': elementwise ones pass
// block by block over what waits on disk, the others see whole matrices.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "methods/estimator.h"
#include "methods/option.h"

namespace thimble {

// What an optimizer is told of a trained parameter.
struct Parameter {
  std::string_view name;
  Shape shape;
  bool in_block = false;  // of a repeated block of the model: neither embedding nor head
  int64_t head_rows = 0;  // rows of one head, of what makes queries or keys; 0: of nothing that does
  int layer = -1;         // the first block that reads it; -1: none does

  bool is_matrix() const { return shape.rank() == 2; }
  bool is_hidden_matrix() const { return is_matrix() && in_block; }
};

struct StateSpec {
  std::string_view name;
  Shape shape;
  const Codec* codec = &kF32;
  double initial = 0;
  int64_t reset_every = 0;  // steps after which it is `initial` again, before the update; 0: never
  bool squares = false;     // of squared gradients: in few bits its root is stored, which spans half as many decades
  bool any_codec = true;    // only pointwise operations touch it: --states may choose how it is stored
};

// The state as `--states` wants it stored (8-bit optimizers, Dettmers et al. 2021, arXiv:2110.02861): states of small
// parameters, and those that products read, stay as they are. Where blocks do not fit the rows, the state lies flat.
inline constexpr int64_t kLeastCoded = 4096;  // elements
StateSpec coded(StateSpec state, const Codec& codec);
// Writes its initial value over a state in steps where StateSpec::reset_every says so; returns its new version.
ValueId reset_when_due(Graph& graph, ValueId state, const StateSpec& spec, ValueId step);

// One parameter's update while it is being built. What a hook writes over, it replaces by the new version.
struct Update {
  Graph& graph;
  const OptionValues& options;
  Parameter trained;
  double decay;  // of this parameter, a step, times the learning rate
  ValueId parameter;
  ValueId gradient;                        // absorb: of this pass; measure and apply: as accumulated
  ValueId accumulator;                     // absorb: what was accumulated before
  std::vector<ValueId> states;             // as declared
  std::vector<ValueId> statistics;         // from measure
  std::vector<ValueId> totals;             // of each statistic over all parameters, where Optimizer::total asks for it
  ValueId learning_rate;                   // f32 [1]
  ValueId step;                            // f32 [1], counted from 1
  ValueId clip;                            // f32 [1], factor of the gradient; kNone: not clipped
  std::vector<char> roots = {};            // by state: whether its root is what is stored; empty: of none
  std::vector<std::string_view> due = {};  // periods of this kind of step
  const Estimate* estimate = nullptr;      // what the gradient is made of; nullptr: it was derived
  int64_t steps = 0;                       // of the run as it was begun; 0: not known
  ValueId threshold = kNone;               // f32 [1], of the numbers that the estimate is for; kNone: for all
  ValueId loss_scale = kNone;              // curvature: f32 [1], 1 / tokens of the step, over which the loss is a mean

  bool is_due(std::string_view period) const { return std::find(due.begin(), due.end(), period) != due.end(); }
  std::string name() const { return graph.value(parameter).name; }  // a copy: values move while nodes are emitted
};

// How the statistics of all parameters become one.
enum class Total : uint8_t { none, sum, maximum };

struct Hooks {
  ValueId (*absorb)(Update& update) = nullptr;  // returns the accumulator's new version
  std::vector<ValueId> (*measure)(Update& update) = nullptr;
  void (*apply)(Update& update) = nullptr;
  void (*curvature)(Update& update) = nullptr;  // writes over states alone; wants a period kCurvature
};

// The period of steps after which the same tokens are passed once more, with drawn labels: the gradients lie where
// those of the step did.
inline constexpr std::string_view kCurvature = "curvature";

// Every so many steps, beginning with the first, the hooks see it as due: absorb in the first pass of the step.
inline constexpr int64_t kOnce = int64_t{1} << 60;  // steps of a period that is due at the first step alone
struct Period {
  std::string_view name;
  int64_t (*steps)(const OptionValues& options);  // 0: never
};

struct Optimizer {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  double learning_rate;  // default
  std::span<const Option> options;
  std::vector<StateSpec> (*states)(const Parameter& parameter, const OptionValues& options);
  // Shape of what is accumulated, with absorb; rank 0: the gradient as it is. A gradient is then absorbed a micro-batch
  // at a time, which no budget cuts: sums would be rounded elsewhere.
  Shape (*accumulator)(const Parameter& parameter, const OptionValues& options) = nullptr;
  Hooks hooks;
  Total total = Total::none;  // apply wants them; statistics are [1]
  std::span<const Period> periods = {};
  // What evaluation and files take in place of the parameter: a sum of it and of its states, as the factor of each, in
  // their order (nullptr: the parameter itself). States whose factor is not 0 have its shape, and not any codec.
  std::vector<double> (*evaluated)(const OptionValues& options) = nullptr;
  bool proportional = false;  // a gradient of twice the size is a step of twice the size
  bool finds_rate = false;    // its rate is a factor of one that it finds by itself: no method asks for another
};

std::span<const Optimizer* const> optimizers();
Result<const Optimizer*> optimizer_named(std::string_view name);

// What goes around any optimizer: it sees the gradient before the optimizer does, and the parameter after it has moved.
// One wrapper is one file in wrappers/ and one row of the table in optimizer.cpp; "--optimizer adamw,lookahead" applies
// it. The states of its Update are its own; gradients, clipping, rate and step are those of the optimizer's.
struct Wrapper {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options;
  std::vector<StateSpec> (*states)(const Parameter& parameter, const OptionValues& options);
  bool on_gradient = false;                  // `before` or `together` reads or replaces the gradient
  bool of_weights = false;                   // it is for runs that train the model's own weights
  void (*before)(Update& update) = nullptr;  // may replace gradient and clip
  // Sees all parameters at once, behind every `before` and before any of them moves: may replace gradients and clips,
  // and leave statistics and totals for `after`.
  void (*together)(std::span<Update* const> updates) = nullptr;
  void (*after)(Update& update) = nullptr;  // may write over the parameter
  std::span<const Period> periods = {};
  bool scheduled = false;  // it reads Update::steps
};
std::span<const Wrapper* const> wrappers();

struct WrapperUse {
  const Wrapper* wrapper;
  OptionValues options;
};

// An optimizer, and what goes around it, the innermost first.
struct OptimizerStack {
  const Optimizer* optimizer = nullptr;
  std::vector<const Wrapper*> wrappers;
};
// "adamw", or with wrappers behind it: "adamw,gradient_noise,lookahead".
Result<OptimizerStack> optimizer_stack_named(std::string_view names);

extern const Optimizer kAdamw;
extern const Optimizer kLion;
extern const Optimizer kSgd;
extern const Optimizer kAdafactor;
extern const Optimizer kApollo;
extern const Optimizer kApolloMini;
extern const Optimizer kGalore;
extern const Optimizer kLamb;
extern const Optimizer kMuon;
extern const Optimizer kSpam;
extern const Optimizer kSoap;
extern const Optimizer kCosmos;
extern const Optimizer kCame;
extern const Optimizer kAdamMini;
extern const Optimizer kLars;
extern const Optimizer kSgdSai;
extern const Optimizer kProdigy;
extern const Optimizer kFira;
extern const Optimizer kFrugal;
extern const Optimizer kNaturalGalore;
extern const Optimizer kScheduleFree;
extern const Optimizer kGradNormLorp;
extern const Optimizer kSst;
extern const Optimizer kSophia;

extern const Wrapper kLookahead;
extern const Wrapper kGradientNoise;
extern const Wrapper kKeepZeros;

}  // namespace thimble
