// FRUGAL: AdamW for some columns of each matrix, chosen by chance every so many steps, and signs for all others.
//
//   Paper   Zmushko et al. 2024, arXiv:2411.07837, Algorithm 1
//   Update  every `interval` steps another density n of the n columns is chosen, and Adam's moments begin anew
//           p <- p - lr wd p;  chosen: p <- p - lr Adam(g), t counted from the choice;  others: p <- p - lr free
//           sign(g)
//   State   of a matrix of the blocks [m, n]: Adam's m, v [m, density n]; which columns is drawn again, not stored;
//           AdamW's for the rest
//   Choice  columns at random (CoordOptimizer with coord_choice 'columns' of the authors' code,
//           github.com/fzmushko/FRUGAL), which needs no basis
#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"density", 0.25, 0, 1, "part of the columns that move as with AdamW"},
    whole_number("interval", 200, 1, 1'000'000'000, "steps from one choice to the next"),
    {"free", 1, 0, 1000, "rate of the other columns, as a part of the learning rate; the authors fine-tune with 0.1"},
    kAdamOptions[0],
    kAdamOptions[1],
    kAdamOptions[2],
};

constexpr GatherAttributes::Axis kColumns = GatherAttributes::Axis::columns;

int64_t chosen(const Parameter& parameter, const OptionValues& options) {
  const auto count = static_cast<int64_t>(options["density"] * static_cast<double>(parameter.shape[1]));
  return std::max<int64_t>(1, count);
}

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues& options) {
  if (!parameter.is_hidden_matrix()) return adam_states(parameter.shape);
  std::vector<StateSpec> out = adam_states({parameter.shape[0], chosen(parameter, options)});
  for (StateSpec& state : out) state.reset_every = static_cast<int64_t>(options["interval"]);
  return out;
}

// The same columns until the next choice: those of the largest of n random numbers.
ValueId columns(Update& u) {
  PointwiseBuilder b;
  b.shape({u.trained.shape[1]});
  b.output(b.uniform_noise(name_hash("frugal." + u.name()), static_cast<int64_t>(u.options["interval"])));
  const ValueId lots = u.graph.emit(kPointwise, b.attributes(), {}, "lots." + u.name());
  const bool order_only[] = {false, true};
  const TopKAttributes most{chosen(u.trained, u.options)};
  return u.graph.emit_all(kTopK, most, {lots}, "columns." + u.name(), order_only)[1];
}

// Adam's direction of the chosen columns; steps are counted from the choice.
ValueId direction_of(Update& u, ValueId g) {
  const double b1 = u.options["beta1"], b2 = u.options["beta2"], interval = u.options["interval"];
  ValueId direction = kNone;
  Fused f(u.graph, "direction." + u.name());
  const Expr m = UpdateExpr::read_state(f, u, 0), v = UpdateExpr::read_state(f, u, 1), now = f.tensor(g);
  const Expr step = f.scalar(u.step) - 1, t = step - interval * floor(step / interval) + 1;
  const Expr mean = b1 * m + (1 - b1) * now, squares = b2 * v + (1 - b2) * (now * now);
  UpdateExpr::store_state(f, u, 0, mean);
  UpdateExpr::store_state(f, u, 1, squares);
  f.output(direction, mean / ((1 - pow(b1, t)) * (sqrt(squares) / sqrt(1 - pow(b2, t)) + u.options["epsilon"])));
  f.emit();
  return direction;
}

void apply(Update& u) {
  if (!u.trained.is_hidden_matrix()) return apply_adamw(u);
  Graph& g = u.graph;
  const ValueId gradient = clipped_gradient(u), at = columns(u);
  const ValueId some = g.emit(kGather, GatherAttributes{kColumns}, {gradient, at}, "chosen." + u.name());
  const ValueId direction = direction_of(u, some);
  const GatherAttributes spread{kColumns, u.trained.shape[1]};
  const ValueId inside = g.emit(kScatter, spread, {direction, at}, "inside." + u.name());
  const ValueId kept = g.emit(kScatter, spread, {some, at}, "kept." + u.name());
  Fused f(g, "update." + u.name());
  const Expr p = f.tensor(u.parameter), d = f.tensor(inside), outside = f.tensor(gradient) - f.tensor(kept);
  const Expr rate = f.scalar(u.learning_rate);
  f.store(u.parameter, p * (1 - rate * u.decay) - rate * (d + u.options["free"] * sign(outside)));
  f.emit();
}

}  // namespace

const Optimizer kFrugal = {.name = "frugal",
                           .summary = "AdamW for some columns of each matrix in turn, signs for the others",
                           .paper = "arXiv:2411.07837",
                           .learning_rate = 2e-4,
                           .options = kOptions,
                           .states = states,
                           .hooks = {.apply = apply}};

}  // namespace thimble
