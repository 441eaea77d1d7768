// A pointwise update while it is being written: values of the graph as expressions, and what is stored over them.
#pragma once

#include <optional>
#include <vector>

#include "core/random.h"
#include "methods/optimizer.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {

// One pointwise node over values of one shape. Every value becomes one operand, however often it is asked for.
class Fused {
 public:
  Fused(Graph& graph, std::string name) : graph_(graph), name_(std::move(name)) {}

  Expr tensor(ValueId value) { return operand(value, PointwiseAttributes::Kind::tensor); }
  Expr row(ValueId value) { return operand(value, PointwiseAttributes::Kind::row); }
  Expr column(ValueId value) { return operand(value, PointwiseAttributes::Kind::column); }
  Expr scalar(ValueId value) { return operand(value, PointwiseAttributes::Kind::scalar); }
  Expr constant(double value) { return builder_.constant(value); }
  PointwiseBuilder& builder() { return builder_; }

  // `value` is overwritten, and becomes its new version when the node is emitted.
  void store(ValueId& value, Expr expr, uint64_t rounding = 0) { stores_.push_back({&value, value, expr, rounding}); }
  // `value` becomes a new value.
  void output(ValueId& value, Expr expr, const Codec* codec = &kF32) { outputs_.push_back({&value, expr, codec}); }
  void emit();

 private:
  struct Store {
    ValueId* target;
    ValueId value;
    Expr expr;
    uint64_t rounding;
  };
  struct Output {
    ValueId* target;
    Expr expr;
    const Codec* codec;
  };
  Expr operand(ValueId value, PointwiseAttributes::Kind kind);

  Graph& graph_;
  std::string name_;
  PointwiseBuilder builder_;
  std::vector<ValueId> operands_;
  std::vector<Expr> exprs_;  // by operand
  std::vector<Store> stores_;
  std::vector<Output> outputs_;
};

// The gradient of a parameter as an estimator makes it: an expression, for which nothing is stored.
Expr estimated_gradient(Fused& fused, const Update& update);

// The gradient as clipping leaves it: a new value, or the gradient itself where nothing is clipped.
ValueId clipped_gradient(Update& update);

// `value` is stored over state i.
void store_over(Update& update, size_t i, ValueId value);

// The update of one parameter and of its states, all of the parameter's shape (or flat).
class UpdateExpr {
 public:
  explicit UpdateExpr(Update& update)
      : update_(update), fused_(update.graph, "update." + update.name()), p(fused_.tensor(update.parameter)) {
    for (size_t i = 0; i < update.states.size(); ++i) states.push_back(state(i));
    const Expr gradient = update.estimate ? estimated_gradient(fused_, update) : fused_.tensor(update.gradient);
    learning_rate = fused_.scalar(update.learning_rate);
    step = fused_.scalar(update.step);
    g = update.clip == kNone ? gradient : gradient * fused_.scalar(update.clip);
  }

  // Writes the parameter and every state, in order, and emits the node.
  void emit(Expr parameter, const std::vector<Expr>& next_states) {
    fused_.store(update_.parameter, parameter);
    for (size_t i = 0; i < next_states.size(); ++i) store_state(fused_, update_, i, next_states[i]);
    fused_.emit();
  }

  // State i in an expression of another shape than the parameter's, and what is stored over it.
  static Expr read_state(Fused& fused, const Update& update, size_t i) {
    const Expr stored = fused.tensor(update.states[i]);
    return is_root(update, i) ? stored * stored : stored;
  }
  static void store_state(Fused& fused, Update& update, size_t i, Expr next) {
    const Value& value = update.graph.value(update.states[i]);
    const uint64_t rounding = value.type.codec == &kBf16 ? name_hash("rounding." + value.name) : 0;
    fused.store(update.states[i], is_root(update, i) ? sqrt(next) : next, rounding);
  }

 private:
  Expr state(size_t i) { return read_state(fused_, update_, i); }
  static bool is_root(const Update& update, size_t i) { return !update.roots.empty() && update.roots[i]; }

  Update& update_;
  Fused fused_;

 public:
  Expr p{}, g{}, learning_rate{}, step{};  // g is clipped
  std::vector<Expr> states;
};

}  // namespace thimble
