// The keeper socket: what waits, in place of an activation, from the forward pass to the gradient that reads it. One
// keeper is one file in keepers/ and one row of the table in keeper.cpp; several stack, `--keep few_bit,mesa`: of each
// value and node the first that has something in its place decides.
//
//   saved     for a value that a gradient asks for: another that it reads instead
//   gradient  for a node: its whole gradient, out of other values than the operation's own gradient reads
// Both emit nodes: in the forward pass what is kept (Keeping::forward), in the backward pass what becomes of it. They
// are nodes like others: planned, recomputed and spilled as those are, with the same bits at every budget. Random
// numbers in them are keyed by seed, stream, step and the row's number in the step.
//
// A keeper may have states: persistent values that the passes of a step read as they were when the step began, saved
// and resumed like an optimizer's. What passes gather for their next version lies in accumulators.
//
// Only what is read in a block is a keeper's affair, and, unless it says otherwise, has a row a token; values that
// blocks exchange are asked for by each block apart.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "core/result.h"
#include "methods/option.h"
#include "ops/backward.h"

namespace thimble {

class Keeping;
using StepEnd = std::function<void(Graph&)>;

struct Keeper {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options = {};
  // value: [tokens, width] of floating point, the first result of a node of the forward pass (or of one that a keeper
  // emitted in it).
  // Returns what Keeping::reader() reads instead; the value itself where this keeper has nothing in its place.
  ValueId (*saved)(Keeping& keeping, ValueId value) = nullptr;
  // Whether it is asked for every value that the forward pass made, of any type and of any block.
  bool any_value = false;
  // Emits the gradient of a node and returns true, or emits nothing.
  bool (*gradient)(Keeping& keeping, const Node& node) = nullptr;

  bool exact() const { return !saved && !gradient; }
};

std::span<const Keeper* const> keepers();
// A keeper with the options that were chosen for it.
struct KeeperUse {
  const Keeper* keeper;
  OptionValues options;

  explicit KeeperUse(const Keeper& k) : keeper(&k), options(k.options) {}
};
// "mesa", or several with commas between. `exact` stands for none.
Result<std::vector<KeeperUse>> keepers_named(std::string_view names);

extern const Keeper kExactKeeper;
extern const Keeper kQ8Keeper;
extern const Keeper kMesa;
extern const Keeper kFewBit;
extern const Keeper kApproxBp;
extern const Keeper kMsNorm;
extern const Keeper kWtaCrs;
extern const Keeper kCoat;
extern const Keeper kReversible;

// What the keepers of a stack have emitted for the backward pass of a graph, which may be made in parts.
class Kept {
 public:
  // Backward, and the uses, must outlive it.
  Kept(Backward& backward, std::span<const KeeperUse> uses);

  // When the backward pass is complete: puts what is kept right behind what it is made of.
  void place();
  // Then, too: names of the keepers that kept nothing, be it that there is nothing of their kind or that those before
  // them in the stack left them nothing.
  std::vector<std::string_view> idle() const;
  // What emits the next versions of all states, in the phase of the update; of no object here.
  const std::vector<StepEnd>& at_step_end() const { return at_end_; }
  // Names of the states.
  const std::vector<std::string>& states() const { return states_; }

 private:
  friend class Keeping;
  ValueId saved(ValueId value, size_t first);  // by the keepers from `first` on
  bool gradient(const Node& node);
  bool keepable(ValueId value) const;
  bool asks(const Keeper& keeper, ValueId value) const;
  size_t position(ValueId value) const;  // the node of the forward pass behind which it can be read

  Backward& backward_;
  const std::span<const KeeperUse> uses_;
  std::map<size_t, size_t> stores_;  // node that keeps: the node behind which it goes
  // By keeper, purpose, value and block.
  std::map<std::tuple<size_t, std::string_view, ValueId, int>, ValueId> shared_;
  std::vector<std::string> states_;
  std::vector<StepEnd> at_end_;
  std::vector<bool> keeps_;  // by keeper: it has something in a value's place
};

// One keeper's view while it answers.
class Keeping {
 public:
  Keeping(Kept& kept, size_t index) : kept_(kept), index_(index) {}

  Backward& backward() { return kept_.backward_; }
  Graph& graph() { return kept_.backward_.graph(); }
  const OptionValues& options() const { return kept_.uses_[index_].options; }
  int block() const { return kept_.backward_.graph().block(); }
  // The node of the forward pass whose gradient is being made.
  const Node& reader() const { return *kept_.backward_.reader(); }

  // Whether it is what keepers may have something in place of (Keeper::saved).
  bool keepable(ValueId value) const { return kept_.keepable(value); }
  // Says that the backward pass reads something else than it would, where nothing is emitted in the forward pass.
  void keeps() { kept_.keeps_[index_] = true; }
  // Emits a node in the forward pass, as early as its operands allow. Returns its outputs.
  std::vector<ValueId> forward(const Op& op, std::any attributes, std::vector<ValueId> in, const std::string& name);
  // What make() returned when it was first called for this purpose (a literal), value and block.
  ValueId once(std::string_view purpose, ValueId value, const std::function<ValueId()>& make);
  // What waits in place of a value by the keepers behind this one; of a value that this keeper emitted too.
  ValueId saved(ValueId value) { return kept_.saved(value, index_ + 1); }
  // "mesa.3.train.x": a name for what waits for a value in this block.
  std::string name(ValueId value);

  // A state, f32, with what it begins with.
  ValueId state(const std::string& name, const Shape& shape, float initial);
  // Zero when a step begins; passes write over it in the backward pass.
  ValueId accumulator(const std::string& name, const Shape& shape);
  // Called once, when the nodes that end a step are emitted: they write over states.
  void at_step_end(StepEnd emit) { kept_.at_end_.push_back(std::move(emit)); }

 private:
  Kept& kept_;
  const size_t index_;
};

// Keeps a value in a codec, and returns it as it is restored from that.
ValueId kept_in(Keeping& keeping, ValueId value, const Codec& codec);

}  // namespace thimble
