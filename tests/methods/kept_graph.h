// One block of a graph, differentiated with keepers, and run by the scalar references in double.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "core/random.h"
#include "methods/keeper.h"
#include "ops/pointwise.h"
#include "ops/reference_graph.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {

class KeptGraph {
 public:
  // `make` emits the block of its input, a value that the block before made of "a", and returns its output, whose
  // gradient is the input "dy". All parameters are wanted; `uses` may be empty. Without "dy" the output is the loss.
  KeptGraph(const Shape& a, std::vector<KeeperUse> uses, const std::function<ValueId(Graph&, ValueId)>& make)
      : uses_(std::move(uses)) {
    input("a", a);
    PointwiseBuilder b;
    b.output(b.tensor());
    graph.set_block(0);
    const ValueId x = graph.emit(kPointwise, b.attributes(), {graph.find("a")}, "x");
    const ValueId y = make(graph, x);
    graph.set_block(-1);
    const std::vector<ValueId> wanted = parameters_of(graph);
    Backward backward(graph, wanted);
    Kept kept(backward, uses_);
    backward.add(y, input("dy", graph.value(y).type.shape));
    const auto ran = backward.run({});
    EXPECT_TRUE(ran) << (ran ? "" : ran.error().message);
    kept.place();
    graph.set_phase(Phase::update);
    for (const StepEnd& end : kept.at_step_end()) end(graph);
    states = kept.states();
    for (const auto& leaf : backward.leaves()) gradients_[graph.value(leaf.parameter).name] = leaf.last;
    const auto legal = graph.verify();
    EXPECT_TRUE(legal) << (legal ? "" : legal.error().message);
    for (size_t i = 0; i < graph.values().size(); ++i) {
      const Value& value = graph.values()[i];
      if (graph.producer(static_cast<ValueId>(i)) >= 0) continue;
      const bool zero = value.role == Role::gradient || value.role == Role::state;
      values[static_cast<ValueId>(i)] = zero ? std::vector<double>(static_cast<size_t>(value.type.shape.count()), 0.0)
                                             : normal(value.name, value.type.shape.count());
    }
  }

  ValueId input(const std::string& name, const Shape& shape) {
    return graph.add_value(name, {shape, &kF32, Extent::tokens}, Role::input);
  }
  static std::vector<double> normal(const std::string& name, int64_t count) {
    std::vector<double> out;
    for (int64_t i = 0; i < count; ++i) out.push_back(Random(3, name).normal(static_cast<uint64_t>(i)));
    return out;
  }

  // One step. What was written over a state, its next version has the name "<state>.next", is where it begins then.
  void run(uint64_t step = 0, uint64_t seed = 11) {
    Threads threads(1);
    RunContext context{threads, Multiply::f32, seed, step, 0};
    for (size_t i = 0; i < graph.values().size(); ++i)
      if (graph.values()[i].role == Role::gradient && graph.producer(static_cast<ValueId>(i)) < 0)
        std::ranges::fill(values[static_cast<ValueId>(i)], 0.0);
    run_reference(graph, values, context);
    for (const std::string& state : states)
      if (const ValueId next = graph.find(state + ".next"); next != kNone) values[graph.find(state)] = values.at(next);
  }

  std::vector<double>& at(const std::string& name) { return values.at(graph.find(name)); }
  const std::vector<double>& gradient(const std::string& parameter) { return values.at(gradients_.at(parameter)); }
  // Bytes of what the backward pass reads of the forward pass, without parameters and states.
  int64_t kept_bytes() const {
    std::vector<char> counted(graph.values().size(), 0);
    int64_t bytes = 0;
    for (const Node& node : graph.nodes())
      for (const ValueId id : node.in) {
        if (node.phase != Phase::backward || id == kNone || graph.producer(id) < 0) continue;
        if (graph.nodes()[static_cast<size_t>(graph.producer(id))].phase != Phase::forward) continue;
        if (!std::exchange(counted[static_cast<size_t>(id)], 1)) bytes += graph.value(id).type.bytes();
      }
    return bytes;
  }

  Graph graph;
  ReferenceValues values;
  std::vector<std::string> states;

 private:
  const std::vector<KeeperUse> uses_;
  std::map<std::string, ValueId> gradients_;
};

inline KeeperUse keeper_use(const Keeper& keeper, const std::vector<std::pair<std::string, double>>& options = {}) {
  KeeperUse use(keeper);
  for (const auto& [name, value] : options) EXPECT_TRUE(use.options.set(keeper.name, name, value));
  return use;
}

// y = x w^T, with w [out, columns of x] as a parameter.
inline ValueId linear_of(Graph& graph, ValueId x, int64_t out, const std::string& w = "w") {
  const ValueId weight = graph.add_value(w, {{out, graph.value(x).type.shape[1]}}, Role::parameter);
  return graph.emit(kLinear, LinearAttributes{}, {x, weight, kNone, kNone}, "y." + w);
}

}  // namespace thimble
