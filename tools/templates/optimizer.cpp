// @NAME@: one line that says how a parameter moves.
//
//   Paper   Authors and year, arXiv number, which algorithm
//   Update  m <- b*m + g;  p <- p - lr*(m + wd*p)
//   State   m, shape of p
//   Choice  where this differs from the paper
//
// As made from the template: momentum with decoupled decay, so that every test passes.
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta", 0.9, 0, 0.999999, "decay of the momentum"},
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) { return {{"m", parameter.shape}}; }

void apply(Update& update) {
  UpdateExpr u(update);
  const Expr m = update.options["beta"] * u.states[0] + u.g;
  u.emit(u.p - u.learning_rate * (m + update.decay * u.p), {m});
}

}  // namespace

const Optimizer @SYMBOL@ = {.name = "@NAME@",
                             .summary = "one line for help and docs",
                             .paper = "arXiv number",
                             .learning_rate = 1e-2,
                             .options = kOptions,
                             .states = states,
                             .hooks = {.apply = apply}};

}  // namespace thimble
