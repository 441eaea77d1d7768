// LARS: momentum whose gradients are as long as the parameter, times a small factor.
//
//   Paper   You et al. 2017, arXiv:1708.03888, Algorithm 1; compared with LAMB in arXiv:1904.00962
//   Update  of a matrix g <- trust |p| / (|g| + wd |p|) (g + wd p);  m <- mu m + g;  p <- p - lr m
//   State   m, shape of p
//   Choice  vectors move by momentum alone, without decay; the ratio is 1 where either norm is 0; the rate multiplies
//           m, as in most code, so that a schedule acts at once
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"momentum", 0.9, 0, 0.999999, "decay of the momentum"},
    {"trust", 1e-3, 1e-9, 1000, "length of a step before the rate, of a parameter of length 1"},
    zero_or_one("nesterov", 0, "1: look ahead"),
};

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) { return {{"m", parameter.shape}}; }

void apply(Update& u) {
  const double mu = u.options["momentum"];
  ValueId size = kNone, length = kNone;
  if (u.trained.is_matrix()) {
    size = squared_length(u.graph, u.parameter, "size." + u.name());
    length = squared_length(u.graph, u.gradient, "length." + u.name());
  }
  Fused f(u.graph, "update." + u.name());
  const Expr p = f.tensor(u.parameter), before = UpdateExpr::read_state(f, u, 0), whole = f.tensor(u.gradient);
  const Expr rate = f.scalar(u.learning_rate);
  Expr g = u.clip == kNone ? whole : whole * f.scalar(u.clip);
  if (size != kNone) {
    const Expr own = sqrt(f.scalar(size)), root = sqrt(f.scalar(length));
    const Expr pull = u.clip == kNone ? root : root * f.scalar(u.clip);
    const Expr ratio = u.options["trust"] * own / max(pull + u.decay * own, 1e-30);
    g = select(greater(own, 0) * greater(pull, 0), min(ratio, 1e30), f.constant(1)) * (g + u.decay * p);
  }
  const Expr m = mu * before + g;
  f.store(u.parameter, p - rate * (u.options["nesterov"] > 0 ? g + mu * m : m));
  UpdateExpr::store_state(f, u, 0, m);
  f.emit();
}

}  // namespace

const Optimizer kLars = {.name = "lars",
                         .summary = "momentum of gradients scaled to the size of each matrix",
                         .paper = "arXiv:1708.03888",
                         .learning_rate = 1,
                         .options = kOptions,
                         .states = states,
                         .hooks = {.apply = apply}};

}  // namespace thimble
