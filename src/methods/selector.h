// The selector socket: which of the parameters of a method train at a step. One selector is one file in selectors/ and
// one row of the table in selector.cpp.
//
// A selector answers for every parameter whether it trains now, rests (it trains at other steps) or never trains. The
// backward pass and the updates are derived for those that train now and for nothing else: what a selector leaves out
// has no gradient, no states and no nodes in the plan. What never trains is not even a parameter: it stays as its file
// stores it.
//
//   select   the answer, from the parameters, the options, the seed and, where it is `scored`, what the data say of
//   each period   steps after which it is asked again with the next `draw`; nullptr: the first answer holds for the run
//
//   probing  what it learns of the layers while the run goes, from losses with some of their adapters scaled down
//
// With a period, what rests has no states: gradients and states lie in slots, which belong to layers that train, the
// first to the lowest. Layers must then be alike. A slot's states begin anew with every period.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shape.h"
#include "methods/option.h"

namespace thimble {

// A parameter that the method would train.
struct Selectable {
  std::string_view name;
  Shape shape;
  // Blocks that read it first and last; -1: before all blocks, the number of layers: behind them. A tied embedding is
  // read from -1 on.
  int first = -1, last = -1;
  int64_t training_bytes = 0;  // of its f32 master, its gradient and the states of the optimizer
  std::string_view module;     // an adapter's layer, whose parameters mean something together only; else its own name
};

struct SelectorInput {
  std::span<const Selectable> parameters;
  int64_t layers = 0;  // of the model
  const OptionValues& options;
  uint64_t seed = 0;
  int64_t draw = 0;  // number of the period, from 0, or kLowestLayers
  std::span<const double> scores =
      {};  // by parameter, of a scored selector: the mean over micro-batches of |gradient|^2
  std::span<const double> importance = {};  // by layer, of a selector that probes; empty: all zeros
};
// Of a selector that probes, whose later periods no plan can know: as many layers as ever train, the lowest ones, whose
// backward pass needs the most memory.
inline constexpr int64_t kLowestLayers = -1;

enum class Trains : uint8_t {
  never,
  now,      // in every period
  drawn,    // now, in turn with those that rest
  resting,  // at other times
};

// Before every period but the first, the loss of the next step's tokens is measured several times, each time with what
// the adapters of some layers add scaled down; from these losses the importance of the layers is learnt.
struct Probing {
  double (*scale)(const OptionValues& options);  // of what a suppressed layer adds
  // Which layers are suppressed, by probe and layer.
  std::vector<std::vector<bool>> (*suppressed)(const SelectorInput& input);
  void (*learn)(const OptionValues& options, std::span<const std::vector<bool>> suppressed,
                std::span<const double> losses, std::span<double> importance);
};

struct Selector {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options = {};
  // By parameter; nullptr: all train. Errors: a selection that the options do not make sense for.
  Result<std::vector<Trains>> (*select)(const SelectorInput& input) = nullptr;
  int64_t (*period)(const OptionValues& options) = nullptr;  // steps, at least 1
  // Micro-batches whose gradients it wants to see before the first step; nullptr: none.
  int64_t (*scored)(const OptionValues& options) = nullptr;
  const Probing* probing = nullptr;  // with a period, for methods whose adapters can be scaled
};

std::span<const Selector* const> selectors();
Result<const Selector*> selector_named(std::string_view name);

// Every parameter that `trains` says so of; the others never train.
template <class Predicate>
std::vector<Trains> trained_where(std::span<const Selectable> parameters, Predicate trains) {
  std::vector<Trains> out;
  for (const Selectable& parameter : parameters) out.push_back(trains(parameter) ? Trains::now : Trains::never);
  return out;
}
// An error where more layers are asked for than there are.
Result<int64_t> layers_within(const SelectorInput& input, std::string_view selector);
// Of a selector that draws: parameters of these layers train, those of the other layers rest; what is no layer's always
// trains.
std::vector<Trains> train_in_turn(const SelectorInput& input, const std::vector<bool>& drawn);

extern const Selector kAllSelector;
extern const Selector kLastLayers;
extern const Selector kPatterns;
extern const Selector kSparse;
extern const Selector kSurgical;
extern const Selector kLisa;
extern const Selector kIst;

}  // namespace thimble
