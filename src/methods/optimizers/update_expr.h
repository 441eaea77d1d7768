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
      states.push_back(builder_.tensor());
      operands_.push_back(state);
    }
    Expr gradient = builder_.tensor();
    operands_.push_back(update.gradient);
    learning_rate = scalar(update.learning_rate);
    step = scalar(update.step);
    g = update.clip == kNone ? gradient : gradient * scalar(update.clip);
  }

  // Writes the parameter and every state, in order, and emits the node.
  void emit(Expr parameter, const std::vector<Expr>& next_states) {
    builder_.store(p, parameter);
    for (size_t i = 0; i < states.size(); ++i) builder_.store(states[i], next_states[i]);
    update_.graph.emit_all(kPointwise, builder_.attributes(), operands_,
                           "update." + update_.graph.value(update_.parameter).name);
  }

  Expr p{}, g{}, learning_rate{}, step{};  // g is clipped
  std::vector<Expr> states;

 private:
  Expr scalar(ValueId id) {
    operands_.push_back(id);
    return builder_.scalar();
  }
  Update& update_;
  PointwiseBuilder builder_;
  std::vector<ValueId> operands_;
};

}  // namespace thimble
