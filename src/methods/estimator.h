// The estimator socket: where the gradient of a parameter comes from. One estimator is one file in estimators/ and one
// row of the table in estimator.cpp.
//
// Backpropagation is one of them. The others never build a backward pass: they find the derivative d of the loss along
// a direction z that is drawn from the step's key and never stored, and hand the optimizer a gradient d * z that is
// computed again wherever it is read. Either they move all parameters and look at the loss there:
//
//   p_k = p + position_k * epsilon * z        a probe; every pass of the step runs on it
//   d   = sum_k weight_k * loss(p_k) / epsilon
//
// or parameters stay where they are, and the passes carry the derivative along z beside every value (`tangents`).
//
// z is drawn by (seed, step, name of the parameter, element), so that it is the same whenever it is asked for. Any
// optimizer takes it as it takes a gradient, and any method says what trains. Options are `directions` (of a step;
// their gradients are averaged), with probes `epsilon`, and what else the estimator declares. With groups of layers
// each direction moves the parameters of one group alone, and every group has as many directions. Where only the
// numbers below a threshold move, parameters stay as they are and the passes read moved ones, so that what is below it
// is the same at every probe.
#pragma once

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "methods/option.h"
#include "ops/pointwise.h"

namespace thimble {

// Of one direction.
struct Probe {
  double position;  // in units of epsilon
  double weight;    // of its loss in the derivative along the direction, in units of 1 / epsilon
};

// What a module learns to have much of for text as it is, and little for text that is wrong in places.
struct Goodness {
  double threshold = 1;
  double replaced = 0.15;     // part of the tokens of the text that is wrong
  bool collaborates = false;  // the goodness of the other modules is added, as a number
};

// The blocks of a model in modules, each of which learns by a loss of its own (plan/modules.h).
struct LocalModules {
  int64_t count = 2;
  double momentum = -1;  // of the average of the next block's weights, in an auxiliary network; negative: there is none
  std::optional<Goodness> goodness = {};  // learns by it, instead of by what the head makes of it
  bool denoises = false;                  // learns to find the label's embedding behind noise (Architecture::denoises)

  bool averages() const { return momentum >= 0; }
};

struct Estimator {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options;
  std::vector<Probe> (*probes)(const OptionValues& options) = nullptr;
  bool tangents = false;  // without probes: the passes carry the derivative along the direction
  // An element of z.
  Expr (*direction)(PointwiseBuilder& builder, uint64_t stream) = nullptr;
  // What becomes of the gradient; nullptr: it stays as it is.
  Expr (*finish)(Expr gradient, const OptionValues& options) = nullptr;
  int (*groups)(const OptionValues& options) = nullptr;  // of layers; nullptr: all parameters are one group
  // Part of the numbers of a matrix that does not move, the largest; nullptr or 0: all move.
  double (*sparsity)(const OptionValues& options) = nullptr;
  // Whether a step goes along the gradient, against it or nowhere, wherever plain gradient descent would have the least
  // loss; nullptr: it always goes along.
  bool (*conservative)(const OptionValues& options) = nullptr;
  // With tangents: the last layers, whose gradients are derived in the same passes; nullptr or 0: none.
  int64_t (*derived_layers)(const OptionValues& options) = nullptr;
  // The gradients are derived, module by module; nullptr: of the model as a whole.
  LocalModules (*modules)(const OptionValues& options) = nullptr;
  double rate = 1;                  // of the optimizer's own learning rate, where none is given
  std::string_view optimizer = "";  // that is taken where none is given; empty: the usual one

  // The gradient is derived from the graph.
  bool differentiates() const { return probes == nullptr && !tangents; }
  // The parameters are moved along the direction in place.
  bool moves_in_place(const OptionValues& values) const { return probes && left_out(values) == 0; }
  int64_t derives(const OptionValues& values) const { return derived_layers ? derived_layers(values) : 0; }
  // Times that a step goes through its passes for one direction.
  size_t sweeps(const OptionValues& values) const { return probes ? probes(values).size() : 1; }
  double left_out(const OptionValues& values) const { return sparsity ? sparsity(values) : 0; }
};

inline constexpr int kMostDirections = 8;
inline constexpr int kConservativeProbes = 3;

// The directions of a step, and which of them move a parameter.
class Directions {
 public:
  // layers: of the model.
  Directions(const Estimator& estimator, const OptionValues& options, int64_t layers)
      : groups_(estimator.groups ? estimator.groups(options) : 1),
        each_(static_cast<int>(options["directions"])),
        layers_(std::max<int64_t>(1, layers)) {}

  int count() const { return groups_ * each_; }
  int averaged() const { return each_; }  // whose gradients are averaged
  // A parameter of this layer, -1 of none: those belong to the first group.
  bool moves(int direction, int layer) const {
    return direction % groups_ == (layer < 0 ? 0 : static_cast<int>(layer * groups_ / layers_));
  }

 private:
  int groups_, each_;
  int64_t layers_;
};

// What an update is told of an estimated gradient.
struct Estimate {
  const Estimator& estimator;
  const OptionValues& options;
  Directions directions;
  std::vector<ValueId> derivatives = {};  // f32 [1], by direction, divided by the number that is averaged
};

// The magnitude up to which numbers move, f32 [1]: that which a normal distribution with the mean square of the matrix
// has a part of 1 - left_out below. kNone where all of the value move.
ValueId moving_threshold(Graph& graph, ValueId parameter, double left_out);
// 1 for numbers up to the threshold, else 0: of a matrix that is zero, as adapters begin, all move.
inline Expr moves_within(Expr threshold, Expr number) { return 1 - greater(abs(number), threshold); }
// By which direction k of a parameter is drawn.
uint64_t direction_stream(int k, std::string_view parameter);

std::span<const Estimator* const> estimators();
Result<const Estimator*> estimator_named(std::string_view name);

extern const Estimator kBackprop;
extern const Estimator kForwardForward;
extern const Estimator kForwardGradient;
extern const Estimator kLocal;
extern const Estimator kMan;
extern const Estimator kMezo;
extern const Estimator kNoprop;

}  // namespace thimble
