// Sophia-G: momentum divided by an estimate of the curvature, where that is positive enough, and else by its own size.
//
//   Paper   Liu et al. 2023, arXiv:2305.14342, Algorithms 2 and 3
//   Update  m <- b1 m + (1-b1) g;  p <- p - lr wd p - lr clip(m / (rho h + eps), 1)
//           every `interval` steps h <- b2 h + (1-b2) B g' g', with g' the gradient of the mean loss of the same B
//           tokens against labels drawn from the model's own predictions (Gauss-Newton-Bartlett)
//   State   m, h: shape of p
//   Choice  as the authors' code (github.com/Liuhong99/Sophia): h is measured after a step, and is 0 before the first
//           measurement; eps is added, where the paper takes the larger. B g' g' is what it keeps in h, where the code
//           keeps g' g' and multiplies by B as it reads
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta1", 0.965, 0, 0.999999, "decay of the mean of gradients"},
    {"beta2", 0.99, 0, 0.9999999, "decay of the curvature"},
    {"rho", 0.04, 1e-6, 1e6, "factor of the curvature: the larger, the fewer numbers move by the whole rate"},
    {"epsilon", 1e-15, 0, 1, "added to the curvature"},
    whole_number("interval", 10, 1, 1'000'000'000, "steps from one measurement of the curvature to the next"),
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{"m", parameter.shape}, {.name = "h", .shape = parameter.shape, .squares = true}};
}

void apply(Update& update) {
  UpdateExpr u(update);
  const double b1 = update.options["beta1"];
  const Expr m = b1 * u.states[0] + (1 - b1) * u.g;
  const Expr ratio = m / (update.options["rho"] * u.states[1] + update.options["epsilon"]);
  u.emit(u.p * (1 - u.learning_rate * update.decay) - u.learning_rate * max(min(ratio, 1), -1), {m});
}

void measure_curvature(Update& update) {
  Fused f(update.graph, "curvature." + update.name());
  const Expr h = UpdateExpr::read_state(f, update, 1), g = f.tensor(update.gradient);
  const double b2 = update.options["beta2"];
  UpdateExpr::store_state(f, update, 1, b2 * h + (1 - b2) * (g * g) / f.scalar(update.loss_scale));
  f.emit();
}

constexpr Period kPeriods[] = {
    {kCurvature, [](const OptionValues& options) { return static_cast<int64_t>(options["interval"]); }}};

}  // namespace

const Optimizer kSophia = {
    .name = "sophia",
    .summary = "momentum divided by the curvature of predicted tokens, clipped element by element",
    .paper = "arXiv:2305.14342",
    .learning_rate = 1e-4,
    .options = kOptions,
    .states = states,
    .hooks = {.apply = apply, .curvature = measure_curvature},
    .periods = kPeriods};

}  // namespace thimble
