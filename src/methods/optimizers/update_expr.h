// A pointwise update while it is being written: the parameter, its states and its gradient as expressions.
#pragma once

#include <vector>

#include "methods/optimizer.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {

class UpdateExpr {
 public:
  explicit UpdateExpr(Update& update) : update_(update), operands_{update.parameter} {
    p = builder_.tensor();
    for (ValueId state : update.states) {
      stored_.push_back(builder_.tensor());
      operands_.push_back(state);
    }
    Expr gradient = builder_.tensor();
    operands_.push_back(update.gradient);
    for (size_t i = 0; i < stored_.size(); ++i) states.push_back(root(i) ? stored_[i] * stored_[i] : stored_[i]);
    learning_rate = scalar(update.learning_rate);
    step = scalar(update.step);
    g = update.clip == kNone ? gradient : gradient * scalar(update.clip);
  }

  // Writes the parameter and every state, in order, and emits the node.
  void emit(Expr parameter, const std::vector<Expr>& next_states) {
    builder_.store(p, parameter);
    for (size_t i = 0; i < states.size(); ++i)
      builder_.store(stored_[i], root(i) ? sqrt(next_states[i]) : next_states[i]);
    update_.graph.emit_all(kPointwise, builder_.attributes(), operands_,
                           "update." + update_.graph.value(update_.parameter).name);
  }

  Expr p{}, g{}, learning_rate{}, step{};  // g is clipped
  std::vector<Expr> states;

 private:
  bool root(size_t state) const { return !update_.roots.empty() && update_.roots[state]; }
  Expr scalar(ValueId id) {
    operands_.push_back(id);
    return builder_.scalar();
  }
  Update& update_;
  std::vector<Expr> stored_;
  PointwiseBuilder builder_;
  std::vector<ValueId> operands_;
};

}  // namespace thimble
