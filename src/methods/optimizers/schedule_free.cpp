// Schedule-free AdamW: an average of all steps takes the place of a schedule that falls.
//
//   Paper   Defazio et al. 2024, arXiv:2405.15682, Algorithm 1, and section 4.2 for Adam
//   Update  gradients are at y, the parameter;  v <- b2 v + (1-b2) g^2;  n = g / (sqrt(v / (1-b2^t)) + eps) + wd y
//           c = w_t / sum of w, w = (largest lr so far)^2;  z <- z - lr n;  y <- (1-c) y + c z - lr (1 - b1 (1-c)) n
//   State   d = z - y and v, shape of p; the sum of w, and the largest rate
//   Takes   x = y + (1 - 1/b1) d: evaluation, checkpoints of the best and the files that are written have the average x
//   Choice  as facebookresearch/schedule_free's AdamWScheduleFree with r = 0 and weight_lr_power = 2; z is kept as its
//           distance from y, which begins at zero, d <- (1-c) (d - b1 lr n): before the first step x is the model
#include "methods/optimizers/adamw.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.9, 0.01, 0.999999, "weight of the average in the point where gradients are taken"},
    kAdamOptions[1],
    kAdamOptions[2],
};

enum State : size_t { kDistance, kV, kSum, kRate };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{.name = "distance", .shape = parameter.shape, .any_codec = false},
          {.name = "v", .shape = parameter.shape, .squares = true},
          {.name = "weights", .shape = {1}, .any_codec = false},
          {.name = "rate", .shape = {1}, .any_codec = false}};
}

std::vector<double> evaluated(const OptionValues& options) { return {1, 1 - 1 / options["beta1"], 0, 0, 0}; }

// The largest rate so far and the sum of weights take this step in; returns its part c of that.
ValueId part_of_average(Update& u) {
  ValueId part = kNone;
  Fused f(u.graph, "average." + u.name());
  const Expr sum = f.tensor(u.states[kSum]), rate = f.tensor(u.states[kRate]), now = f.tensor(u.learning_rate);
  const Expr largest = max(rate, now), weight = largest * largest;
  f.store(u.states[kSum], sum + weight);
  f.store(u.states[kRate], largest);
  f.output(part, weight / max(sum + weight, 1e-37));
  f.emit();
  return part;
}

void apply(Update& u) {
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  const ValueId part = part_of_average(u);
  Fused f(u.graph, "update." + u.name());
  const Expr y = f.tensor(u.parameter), d = f.tensor(u.states[kDistance]), before = UpdateExpr::read_state(f, u, kV);
  const Expr whole = f.tensor(u.gradient), lr = f.scalar(u.learning_rate), c = f.scalar(part);
  const Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip);
  const Expr v = b2 * before + (1 - b2) * (g * g);
  const Expr root = sqrt(v) / sqrt(1 - pow(b2, f.scalar(u.step))) + u.options["epsilon"];
  const Expr n = g / root + u.decay * y;
  f.store(u.parameter, y + c * d - lr * (1 - b1 * (1 - c)) * n);
  f.store(u.states[kDistance], (1 - c) * (d - b1 * lr * n));
  UpdateExpr::store_state(f, u, kV, v);
  f.emit();
}

}  // namespace

const Optimizer kScheduleFree = {.name = "schedule_free",
                                 .summary = "AdamW whose steps are averaged, for a rate that does not fall",
                                 .paper = "arXiv:2405.15682",
                                 .learning_rate = 5e-4,
                                 .options = kOptions,
                                 .states = states,
                                 .hooks = {.apply = apply},
                                 .evaluated = evaluated};

}  // namespace thimble
