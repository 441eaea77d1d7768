// Adam-mini: AdamW with one second moment for each block of a parameter that shares a scale.
//
//   Paper   Zhang et al. 2024, arXiv:2406.16793, Algorithms 1 and 2
//   Update  m <- b1 m + (1-b1) g;  of a block v <- b2 v + (1-b2) mean(g^2)
//           p <- p - lr wd p - lr (m / (1-b1^t)) / (sqrt(v / (1-b2^t)) + eps)
//   State   m, shape of p; v, one number a block
//   Choice  blocks as in the authors' code (adam-mini 1.1.1): a head of queries or keys, a row of every other matrix (a
//           token of embeddings and head, an output of a layer), a whole vector, but each element of a bias
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"

namespace thimble {
namespace {

int64_t blocks(const Parameter& parameter) {
  if (parameter.is_matrix()) return parameter.shape[0] / std::max<int64_t>(1, parameter.head_rows);
  return parameter.name.ends_with(".bias") ? parameter.shape.count() : 1;
}

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  return {{"m", parameter.shape}, {.name = "v", .shape = {blocks(parameter)}, .any_codec = false}};
}

void apply(Update& u) {
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  const Shape by_block{blocks(u.trained), u.trained.shape.count() / blocks(u.trained)};
  ValueId g = kNone;
  {
    Fused f(u.graph, "blocks." + u.name());
    f.builder().shape(by_block);
    const Expr whole = f.tensor(u.gradient);
    f.output(g, u.clip == kNone ? whole : whole * f.scalar(u.clip));
    f.emit();
  }
  const ValueId sums = reduce(u.graph, g, Reduce::squares, ReduceOver::columns, "squares." + u.name());
  {
    Fused f(u.graph, "v." + u.name());
    const Expr before = f.tensor(u.states[1]), sum = f.tensor(sums);
    f.store(u.states[1], b2 * before + (1 - b2) * (sum / static_cast<double>(by_block[1])));
    f.emit();
  }
  Fused f(u.graph, "update." + u.name());
  f.builder().shape(by_block);
  const Expr p = f.tensor(u.parameter), before = UpdateExpr::read_state(f, u, 0), now = f.tensor(g);
  const Expr rate = f.scalar(u.learning_rate), t = f.scalar(u.step);
  const Expr m = b1 * before + (1 - b1) * now;
  const Expr root = sqrt(f.column(u.states[1])) / sqrt(1 - pow(b2, t)) + u.options["epsilon"];
  f.store(u.parameter, p * (1 - rate * u.decay) - rate / (1 - pow(b1, t)) * m / root);
  UpdateExpr::store_state(f, u, 0, m);
  f.emit();
}

}  // namespace

const Optimizer kAdamMini = {.name = "adam_mini",
                             .summary = "AdamW with one second moment a head, a row or a vector",
                             .paper = "arXiv:2406.16793",
                             .learning_rate = 2e-4,
                             .options = kAdamOptions,
                             .states = states,
                             .hooks = {.apply = apply}};

}  // namespace thimble
