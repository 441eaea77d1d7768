// SGD with momentum.
//
//   Paper   Polyak 1964; Sutskever et al. 2013, ICML (Nesterov's form)
//   Update  g <- g + wd*p;  m <- mu*m + g;  p <- p - lr*m   (nesterov: p <- p - lr*(g + mu*m))
//   State   m, shape of p; none when momentum is 0
//   Choice  decay is added to the gradient and momentum is not dampened, as in torch.optim.SGD
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"momentum", 0, 0, 0.999999, "decay of the momentum; 0: none"},
    zero_or_one("nesterov", 0, "1: look ahead"),
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (options["momentum"] == 0) return {};
  return {{"m", parameter.shape}};
}

void apply(Update& update) {
  const double mu = update.options["momentum"];
  UpdateExpr u(update);
  const Expr g = update.decay > 0 ? u.g + update.decay * u.p : u.g;
  if (mu == 0) return u.emit(u.p - u.learning_rate * g, {});
  const Expr m = mu * u.states[0] + g;
  u.emit(u.p - u.learning_rate * (update.options["nesterov"] > 0 ? g + mu * m : m), {m});
}

}  // namespace

const Optimizer kSgd = {.name = "sgd",
                        .summary = "stochastic gradient descent, with momentum when asked for",
                        .paper = "Sutskever et al. 2013",
                        .learning_rate = 1e-2,
                        .options = kOptions,
                        .states = states,
                        .hooks = {.apply = apply},
                        .proportional = true};

}  // namespace thimble
