// Prodigy: AdamW that finds the size of its steps from how far the parameters have come.
//
//   Paper   Mishchenko and Defazio 2023, arXiv:2306.06101, Algorithm 4
//   Update  D = d lr;  n <- b3 n + sum over all parameters of (d / d0) D <g, p0 - p>;  s <- b3 s + (d / d0) D g
//           m <- b1 m + (1-b1) d g;  v <- b2 v + (1-b2) d^2 g^2;  d' = factor n / sum |s|, d <- max(d, d')
//           p <- p - D wd p - D m / (sqrt(v) + d eps)
//   State   m, v, s and the first parameters p0, shape of p; d, d's maximum and n, the same with every parameter
//   Choice  as prodigyopt 1.1.2's reference, b3 = sqrt(b2). p0 stays in f32: it is subtracted from p
#include <cmath>

#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    kAdamOptions[0],
    kAdamOptions[1],
    kAdamOptions[2],
    {"first", 1e-6, 1e-12, 1, "d to begin with"},
    {"factor", 1, 1e-6, 1e6, "of d: the setting to tune"},
    {"growth", 1e9, 1, 1e9, "most that d grows by in a step"},
    zero_or_one("correct_bias", 0, "1: Adam's bias correction, which runs of less than some 1,000 steps want"),
    zero_or_one("safeguard_warmup", 0, "1: the learning rate is left out of s, for long warm-ups"),
};

enum State : size_t { kM, kV, kS, kBegun, kD, kMostD, kNumerator };

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  std::vector<StateSpec> out = adam_states(parameter.shape);
  out.push_back({.name = "s", .shape = parameter.shape});
  out.push_back({.name = "begun", .shape = parameter.shape, .any_codec = false});
  for (const char* name : {"d", "most_d"})
    out.push_back({.name = name, .shape = {1}, .initial = options["first"], .any_codec = false});
  out.push_back({.name = "numerator", .shape = {1}, .any_codec = false});
  return out;
}

// D of this step, in any node.
Expr step_size(Fused& f, const Update& u, Expr d) {
  const Expr size = d * f.scalar(u.learning_rate);
  if (u.options["correct_bias"] == 0) return size;
  const Expr t = f.scalar(u.step);
  return size * sqrt(1 - pow(u.options["beta2"], t)) / (1 - pow(u.options["beta1"], t));
}

// s, and p0 at the first step; returns this parameter's parts of the numerator's growth and of sum |s|.
std::vector<ValueId> measure(Update& u) {
  ValueId along = kNone, size = kNone;
  {
    Fused f(u.graph, "measured." + u.name());
    const Expr begun = f.tensor(u.states[kBegun]), before = UpdateExpr::read_state(f, u, kS);
    const Expr p = f.tensor(u.parameter), whole = f.tensor(u.gradient), d = f.scalar(u.states[kD]);
    const Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip);
    const Expr first = greater(1.5, f.scalar(u.step)), p0 = select(first, p, begun);
    const Expr scale = d / u.options["first"], long_step = scale * step_size(f, u, d);
    const Expr s =
        std::sqrt(u.options["beta2"]) * before + (u.options["safeguard_warmup"] > 0 ? scale * d : long_step) * g;
    f.store(u.states[kBegun], p0);
    UpdateExpr::store_state(f, u, kS, s);
    f.output(along, long_step * g * (p0 - p));
    f.output(size, s);
    f.emit();
  }
  return {reduce(u.graph, along, Reduce::sum, ReduceOver::all, "along." + u.name()),
          reduce(u.graph, size, Reduce::absolute, ReduceOver::all, "size." + u.name())};
}

// d of the next step, its maximum and the numerator.
void find_rate(Update& u) {
  Fused f(u.graph, "rate." + u.name());
  const Expr d = f.tensor(u.states[kD]), most = f.tensor(u.states[kMostD]), n = f.tensor(u.states[kNumerator]);
  const Expr along = f.tensor(u.totals[0]), size = f.tensor(u.totals[1]);
  const Expr known = greater(size, 0), numerator = std::sqrt(u.options["beta2"]) * n + along;
  const Expr found = u.options["factor"] * numerator / max(size, 1e-37);
  const Expr begun = select(greater(d, u.options["first"] * (1 + 1e-6)), d, max(d, found));
  const Expr largest = max(most, found);
  f.store(u.states[kD], select(known, min(largest, begun * u.options["growth"]), d));
  f.store(u.states[kMostD], select(known, largest, most));
  f.store(u.states[kNumerator], select(known, numerator, n));
  f.emit();
}

void apply(Update& u) {
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  ValueId before = kNone;  // d, which the rate is found over
  {
    Fused f(u.graph, "before." + u.name());
    f.output(before, f.tensor(u.states[kD]));
    f.emit();
  }
  find_rate(u);
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), m = UpdateExpr::read_state(f, u, kM), v = UpdateExpr::read_state(f, u, kV);
  const Expr whole = f.tensor(u.gradient), d = f.scalar(before), next = f.scalar(u.states[kD]);
  const Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip), size = step_size(f, u, d);
  const Expr mean = b1 * m + (1 - b1) * (d * g), squares = b2 * v + (1 - b2) * (d * d * (g * g));
  const Expr known = greater(f.scalar(u.totals[1]), 0);  // else there is no gradient, and nothing moves
  f.store(u.parameter, p * (1 - known * size * u.decay) -
                           known * size * mean / max(sqrt(squares) + next * u.options["epsilon"], 1e-37));
  UpdateExpr::store_state(f, u, kM, mean);
  UpdateExpr::store_state(f, u, kV, squares);
  f.emit();
}

}  // namespace

const Optimizer kProdigy = {.name = "prodigy",
                            .summary = "AdamW that finds the size of its steps",
                            .paper = "arXiv:2306.06101",
                            .learning_rate = 1,
                            .options = kOptions,
                            .states = states,
                            .hooks = {.measure = measure, .apply = apply},
                            .total = Total::sum,
                            .finds_rate = true};

}  // namespace thimble
