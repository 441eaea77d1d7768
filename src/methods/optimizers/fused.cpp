#include <algorithm>

#include "methods/optimizers/update_expr.h"

namespace thimble {

Expr Fused::operand(ValueId value, PointwiseAttributes::Kind kind) {
  for (size_t i = 0; i < operands_.size(); ++i)
    if (operands_[i] == value) return exprs_[i];
  operands_.push_back(value);
  exprs_.push_back(builder_.operand(kind));
  return exprs_.back();
}

// Operands that are stored over come first, in the order of the stores.
void Fused::emit() {
  PointwiseAttributes attributes = builder_.attributes();
  std::vector<int> place(operands_.size(), -1);
  std::vector<ValueId> in;
  for (const Store& store : stores_) {
    const size_t i =
        static_cast<size_t>(std::find(operands_.begin(), operands_.end(), store.value) - operands_.begin());
    assert(i < operands_.size() && place[i] < 0);
    place[i] = static_cast<int>(in.size());
    in.push_back(store.value);
    attributes.outputs.push_back({store.expr.id, nullptr, store.rounding});
  }
  for (size_t i = 0; i < operands_.size(); ++i) {
    if (place[i] >= 0) continue;
    place[i] = static_cast<int>(in.size());
    in.push_back(operands_[i]);
  }
  for (const Output& output : outputs_) attributes.outputs.push_back({output.expr.id, output.codec, 0});
  for (auto& instruction : attributes.code)
    if (instruction.kind <= PointwiseAttributes::Kind::scalar)
      instruction.a = place[static_cast<size_t>(instruction.a)];
  const std::vector<ValueId> out = graph_.emit_all(kPointwise, attributes, in, name_);
  for (size_t i = 0; i < stores_.size(); ++i) *stores_[i].target = out[i];
  for (size_t i = 0; i < outputs_.size(); ++i) *outputs_[i].target = out[stores_.size() + i];
}

Expr estimated_gradient(Fused& fused, const Update& update) {
  const Estimate& estimate = *update.estimate;
  const std::string name = update.name();
  std::optional<Expr> sum;
  for (int k = 0; k < estimate.directions.count(); ++k) {
    if (!estimate.directions.moves(k, update.trained.layer)) continue;
    const Expr derivative = fused.scalar(estimate.derivatives[static_cast<size_t>(k)]);
    const Expr along = derivative * estimate.estimator.direction(fused.builder(), direction_stream(k, name));
    sum = sum ? *sum + along : along;
  }
  Expr gradient = *sum;
  if (update.threshold != kNone)
    gradient = gradient * moves_within(fused.scalar(update.threshold), fused.tensor(update.parameter));
  return estimate.estimator.finish ? estimate.estimator.finish(gradient, estimate.options) : gradient;
}

void store_over(Update& update, size_t i, ValueId value) {
  Fused f(update.graph, "stored." + update.name());
  (void)f.tensor(update.states[i]);
  f.store(update.states[i], f.tensor(value));
  f.emit();
}

ValueId clipped_gradient(Update& update) {
  if (update.clip == kNone) return update.gradient;
  Fused f(update.graph, "clipped." + update.name());
  const Expr whole = f.tensor(update.gradient), by = f.scalar(update.clip);
  ValueId clipped = kNone;
  f.output(clipped, whole * by);
  f.emit();
  return clipped;
}

}  // namespace thimble
