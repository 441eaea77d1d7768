// SGD-SaI: momentum, with a rate for each parameter that the first gradient decides.
//
//   Paper   Xu et al. 2024, arXiv:2412.11768, Algorithm 1
//   Update  first step: s = |g| / (std(g) + eps), divided by the largest of all parameters;  m = g
//           later: m <- mu m + (1-mu) g;  always p <- p - lr wd p - lr s m
//   State   m, shape of p; s, one number
//   Choice  as the authors' code 1.0.4 (github.com/AnonymousAlethiometer/SGD_SaI), which divides by the largest s
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"momentum", 0.9, 0, 0.999999, "decay of the momentum"},
    {"epsilon", 1e-8, 0, 1, "added to the standard deviation"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{"m", parameter.shape}, {.name = "ratio", .shape = {1}, .any_codec = false}};
}

std::vector<ValueId> measure(Update& u) {
  if (!u.is_due("first")) return {};
  const ValueId g = clipped_gradient(u);
  const ValueId sum = reduce(u.graph, g, Reduce::sum, ReduceOver::all, "sum." + u.name());
  const ValueId squares = squared_length(u.graph, g, "squares." + u.name());
  const auto n = static_cast<double>(u.trained.shape.count());
  ValueId ratio = kNone;
  Fused f(u.graph, "ratio." + u.name());
  const Expr s = f.tensor(sum), ss = f.tensor(squares);
  const Expr deviation = sqrt(max(ss - s * s / n, 0) / std::max(1.0, n - 1));
  f.output(ratio, sqrt(ss) / (deviation + u.options["epsilon"]));
  f.emit();
  return {ratio};
}

void apply(Update& u) {
  const bool first = u.is_due("first");
  if (first) {
    Fused f(u.graph, "scale." + u.name());
    (void)f.tensor(u.states[1]);
    const Expr own = f.tensor(u.statistics[0]), largest = f.tensor(u.totals[0]);
    f.store(u.states[1], own / max(largest, 1e-30));
    f.emit();
  }
  const double mu = u.options["momentum"];
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), before = UpdateExpr::read_state(f, u, 0), whole = f.tensor(u.gradient);
  const Expr rate = f.scalar(u.learning_rate), ratio = f.scalar(u.states[1]);
  const Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip);
  const Expr m = first ? g : mu * before + (1 - mu) * g;
  f.store(u.parameter, p * (1 - rate * u.decay) - rate * ratio * m);
  UpdateExpr::store_state(f, u, 0, m);
  f.emit();
}

constexpr Period kPeriods[] = {{"first", [](const OptionValues&) { return kOnce; }}};

}  // namespace

const Optimizer kSgdSai = {.name = "sgd_sai",
                           .summary = "momentum with a rate for each parameter that the first gradient decides",
                           .paper = "arXiv:2412.11768",
                           .learning_rate = 1e-2,
                           .options = kOptions,
                           .states = states,
                           .hooks = {.measure = measure, .apply = apply},
                           .total = Total::maximum,
                           .periods = kPeriods,
                           .proportional = true};

}  // namespace thimble
