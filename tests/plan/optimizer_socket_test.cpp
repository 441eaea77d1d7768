// Every part of the optimizer socket, planned and run: small optimizers that only these tests have.
#include <cmath>

#include "methods/optimizers/update_expr.h"
#include "ops/table.h"
#include "plan/tiny_training.h"
#include "whole.h"

namespace thimble {
namespace {

std::vector<StateSpec> nothing(const Parameter&, const OptionValues&) { return {}; }

TrainingSpec spec_of(const Optimizer& optimizer, double clip = 0) {
  TrainingSpec spec = tiny_spec();
  spec.optimizer = &optimizer;
  spec.optimizer_options = OptionValues(optimizer.options);
  spec.clip = clip;
  return spec;
}

Trajectory trained(const TrainingSpec& spec, int steps) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? run_plan(spec, *plan, steps) : Trajectory{};
}

// The same bits from the smallest budget to the largest, in memory and on disk.
void expect_same_bits_at_every_budget(TrainingSpec spec, int steps) {
  const Trajectory expected = trained(spec, steps);
  ASSERT_TRUE(std::isfinite(expected.losses.back()));
  for (bool disk : {false, true}) {
    spec.budget_bytes = 0;
    spec.disk = disk, spec.disk_least_bytes = 4096;
    const int64_t least = smallest_budget(spec), most = plan_training(spec, Machine{})->arena_bytes;
    for (int64_t budget : {least, (least + most) / 2}) {
      spec.budget_bytes = budget;
      const auto plan = plan_training(spec, Machine{.disk = 1e9});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_LE(plan->bytes(), budget);
      EXPECT_EQ(run_plan(spec, *plan, steps), expected) << "budget " << budget << " disk " << disk;
    }
  }
}

// absorb: matrices are accumulated as P^T G, four rows instead of all, and move by P P^T G.

constexpr int64_t kRank = 4;
constexpr double kBasis = 0x1p-4;
bool is_projected(const Shape& shape) { return shape.rank() == 2; }

Shape projected(const Parameter& p, const OptionValues&) {
  return is_projected(p.shape) ? Shape{kRank, p.shape[1]} : Shape{};
}

std::vector<StateSpec> basis(const Parameter& p, const OptionValues&) {
  if (!is_projected(p.shape)) return {};
  return {{.name = "basis", .shape = {p.shape[0], kRank}, .initial = kBasis, .any_codec = false}};
}

// Twice as large a basis at every second step.
ValueId project(Update& u) {
  if (u.is_due("widen")) {
    PointwiseBuilder b;
    const Expr basis = b.tensor();
    b.store(basis, 2 * basis);
    u.states[0] = u.graph.emit(kPointwise, b.attributes(), {u.states[0]}, "wider");
  }
  return u.graph.emit(kLinearDw, ScaleAttributes{}, {u.accumulator, u.states[0], u.gradient}, "projected");
}

void step_along(Update& u, ValueId direction) {
  PointwiseBuilder b;
  const Expr p = b.tensor(), d = b.tensor(), rate = b.scalar();
  b.store(p, p - rate * d);
  u.graph.emit(kPointwise, b.attributes(), {u.parameter, direction, u.learning_rate}, "moved");
}

void apply_projected(Update& u) {
  ValueId direction = u.gradient;
  if (!u.states.empty())
    direction = u.graph.emit(kLinear, LinearAttributes{.terms = {{.transposed = false}}},
                             {u.states[0], u.gradient, kNone, kNone}, "back");
  step_along(u, direction);
}

// The same with the whole gradient kept until the update, and the basis (twice as large from each second step on) from
// the number of the step.
void apply_late(Update& u) {
  if (!is_projected(u.graph.value(u.parameter).type.shape)) return step_along(u, u.gradient);
  const ValueId zero = u.graph.emit(kZeros, ZerosAttributes{{kRank, u.trained.shape[1]}}, {}, "late." + u.name());
  PointwiseBuilder b;
  const Expr basis = b.tensor(), step = b.scalar();
  b.store(basis, 0 * basis + kBasis * pow(2 + 0 * step, floor((step + 1) / 2)));
  u.states[0] = u.graph.emit(kPointwise, b.attributes(), {u.states[0], u.step}, "late.basis");
  u.gradient = u.graph.emit(kLinearDw, ScaleAttributes{}, {zero, u.states[0], u.gradient}, "late.projected");
  apply_projected(u);
}

const Period kWiden[] = {{.name = "widen", .steps = [](const OptionValues&) -> int64_t { return 2; }}};

const Optimizer kProjected = {.name = "projected",
                              .learning_rate = 1,
                              .states = basis,
                              .accumulator = projected,
                              .hooks = {.absorb = project, .apply = apply_projected},
                              .periods = kWiden};
const Optimizer kLate = {.name = "late", .learning_rate = 1, .states = basis, .hooks = {.apply = apply_late}};

TEST(OptimizerSocket, absorbs_gradients_and_has_other_kinds_of_steps) {
  for (double clip : {0.0, 1e9}) {
    SCOPED_TRACE(clip);
    const Trajectory absorbed = trained(spec_of(kProjected, clip), 5);
    EXPECT_NE(absorbed.losses[0], absorbed.losses[4]) << "nothing was trained";
    EXPECT_EQ(absorbed, trained(spec_of(kLate, clip), 5));
    expect_same_bits_at_every_budget(spec_of(kProjected, clip), 3);
  }
}

TEST(OptimizerSocket, what_is_absorbed_is_what_the_plan_holds) {
  const auto absorbed = plan_training(spec_of(kProjected, 1), Machine{});
  const auto whole = plan_training(spec_of(kLate, 1), Machine{});
  ASSERT_TRUE(absorbed && whole);
  // Of 64 or more rows of every matrix, four are held.
  EXPECT_LT(absorbed->layout.bytes(Role::gradient) * 10, whole->layout.bytes(Role::gradient));
  ASSERT_EQ(absorbed->variants.size(), 1u);
  for (const Schedule* s : absorbed->schedules()) EXPECT_LE(s->peak_bytes, absorbed->transient_bytes);
  EXPECT_NE(absorbed->numerics_hash, whole->numerics_hash);
}

// measure: a step as long as the parameter, along the gradient (the ratio of trust of LAMB).

std::vector<ValueId> norms(Update& u) {
  const std::string& name = u.graph.value(u.parameter).name;
  return {u.graph.emit(kSquaredNorm, {}, {u.parameter}, "size." + name),
          u.graph.emit(kSquaredNorm, {}, {u.gradient}, "pull." + name)};
}

void apply_trust(Update& u) {
  PointwiseBuilder b;
  const Expr p = b.tensor(), g = b.tensor(), rate = b.scalar(), size = b.scalar(), pull = b.scalar();
  b.store(p, p - rate * sqrt(size / pull) * g);
  u.graph.emit(kPointwise, b.attributes(), {u.parameter, u.gradient, u.learning_rate, u.statistics[0], u.statistics[1]},
               "trusted");
}

std::vector<ValueId> pull(Update& u) {
  return {u.graph.emit(kSquaredNorm, {}, {u.gradient}, "pull." + u.graph.value(u.parameter).name)};
}

void apply_unit(Update& u) {
  PointwiseBuilder b;
  const Expr p = b.tensor(), g = b.tensor(), rate = b.scalar(), all = b.scalar();
  b.store(p, p - rate * g / sqrt(all));
  u.graph.emit(kPointwise, b.attributes(), {u.parameter, u.gradient, u.learning_rate, u.totals[0]}, "unit");
}

const Optimizer kTrust = {
    .name = "trust", .learning_rate = 1, .states = nothing, .hooks = {.measure = norms, .apply = apply_trust}};
const Optimizer kUnit = {.name = "unit",
                         .learning_rate = 1,
                         .states = nothing,
                         .hooks = {.measure = pull, .apply = apply_unit},
                         .total = Total::sum};

// Changes of a first step by an optimizer, beside those of plain descent, parameter by parameter.
template <class Check>
void compare_steps(const Optimizer& optimizer, Check check, double apart = 1e-4) {
  const TrainingSpec plain = spec_of(kSgd);
  const auto plan = plan_training(plain, Machine{});
  ASSERT_TRUE(plan);
  const std::vector<float> before = run_plan(plain, *plan, 0).parameters,
                           descent = run_plan(plain, *plan, 1).parameters,
                           after = trained(spec_of(optimizer), 1).parameters;
  ASSERT_EQ(after.size(), before.size());
  size_t at = 0;
  for (const TrainedParameter& parameter : by_name(*plan)) {
    const auto count = static_cast<size_t>(parameter.shape.count());
    double size = 0, fallen = 0, moved = 0, along = 0;
    for (size_t i = at; i < at + count; ++i) {
      const double d = double{descent[i]} - before[i], m = double{after[i]} - before[i];
      size += double{before[i]} * before[i], fallen += d * d, moved += m * m, along += d * m;
    }
    at += count;
    SCOPED_TRACE(parameter.name);
    // Plain steps of a gain are a few roundings of 1 wide, and smaller ones are lost in them.
    const bool vector = parameter.shape.rank() == 1;
    if (!vector || moved > 1e-10 * size)
      EXPECT_NEAR(along / std::sqrt(fallen * moved), 1, vector ? 1e-2 : apart) << "not along the gradient";
    check(std::sqrt(size), std::sqrt(fallen), std::sqrt(moved));
  }
}

constexpr double kRate = 1e-2;  // of run_plan

TEST(OptimizerSocket, measures_a_parameter) {
  compare_steps(kTrust,
                [](double size, double, double moved) { EXPECT_NEAR(moved, kRate * size, 1e-3 * kRate * size); });
  expect_same_bits_at_every_budget(spec_of(kTrust), 2);
  expect_same_bits_at_every_budget(spec_of(kTrust, 1), 2);
}

TEST(OptimizerSocket, measures_all_parameters_before_any_moves) {
  double squares = 0, fallen_squares = 0, ratio = 0;
  compare_steps(kUnit, [&](double, double fallen, double moved) {
    squares += moved * moved, fallen_squares += fallen * fallen;
    if (ratio == 0) ratio = moved / fallen;
    EXPECT_NEAR(moved / fallen, ratio, 5e-2 * ratio) << "another factor than the first parameter's";
  });
  EXPECT_NEAR(std::sqrt(squares), kRate, 1e-3 * kRate);
  expect_same_bits_at_every_budget(spec_of(kUnit), 2);
}

TEST(OptimizerSocket, takes_the_largest_statistic_of_all_parameters) {
  double largest = 0;
  compare_steps(
      kSgdSai,
      [&](double, double fallen, double moved) {
        EXPECT_GT(moved, 0);
        EXPECT_LT(moved, 1.05 * fallen);
        largest = std::max(largest, moved / fallen);
      },
      5e-4);
  EXPECT_NEAR(largest, 1, 5e-2) << "one parameter's ratio is the largest";
  expect_same_bits_at_every_budget(spec_of(kSgdSai), 3);
}

// Drawn labels and what is made of them: the same in passes of any size, in memory and on disk.
TEST(OptimizerSocket, measures_curvature_after_a_step) {
  TrainingSpec spec = spec_of(kSophia);
  ASSERT_TRUE(spec.optimizer_options.set("test", "interval", 2.0));
  expect_same_bits_at_every_budget(spec, 4);
  expect_same_bits_at_every_budget(spec, 3);
}

// Factors by parts of names: a momentless step is as long as the factor says.
TEST(OptimizerSocket, rates_go_by_names) {
  TrainingSpec plain = spec_of(kSgd);
  TrainingSpec grouped = plain;
  grouped.rate_of = {{"q_proj", 0.5}, {"layers.1.", 0.25}};  // the last that fits
  const auto plan = plan_training(grouped, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const std::vector<float> before = trained(plain, 0).parameters, all = trained(plain, 1).parameters,
                           some = trained(grouped, 1).parameters;
  size_t at = 0;
  for (const TrainedParameter& parameter : by_name(*plan)) {
    const double factor = parameter.name.find("layers.1.") != std::string::npos ? 0.25
                          : parameter.name.find("q_proj") != std::string::npos  ? 0.5
                                                                                : 1;
    double fallen = 0, moved = 0;
    for (const size_t end = at + static_cast<size_t>(parameter.shape.count()); at < end; ++at)
      fallen += std::pow(double{all[at]} - before[at], 2), moved += std::pow(double{some[at]} - before[at], 2);
    EXPECT_NEAR(std::sqrt(moved / fallen), factor, parameter.shape.rank() == 1 ? 5e-2 : 1e-3) << parameter.name;
  }
  expect_same_bits_at_every_budget(grouped, 2);
  const auto other = plan_training(plain, Machine{});
  EXPECT_NE(plan->numerics_hash, other->numerics_hash);
}

// states: a momentum that begins anew every second step.

std::vector<StateSpec> momentum(const Parameter& p, const OptionValues&) {
  return {{.name = "m", .shape = p.shape, .reset_every = 2}};
}

std::vector<StateSpec> plain_momentum(const Parameter& p, const OptionValues&) {
  return {{.name = "m", .shape = p.shape}};
}

void apply_momentum(Update& update) {
  UpdateExpr u(update);
  const Expr m = u.states[0] + u.g;
  u.emit(u.p - u.learning_rate * m, {m});
}

void apply_momentum_by_step(Update& update) {
  UpdateExpr u(update);
  const Expr even = 1 + 2 * floor(u.step / 2) - u.step;  // 1 at steps 2, 4, ...
  const Expr m = even * u.states[0] + u.g;
  u.emit(u.p - u.learning_rate * m, {m});
}

const Optimizer kForgetful = {
    .name = "forgetful", .learning_rate = 1, .states = momentum, .hooks = {.apply = apply_momentum}};
const Optimizer kByStep = {
    .name = "by-step", .learning_rate = 1, .states = plain_momentum, .hooks = {.apply = apply_momentum_by_step}};

TEST(OptimizerSocket, resets_states) {
  for (double clip : {0.0, 1.0}) EXPECT_EQ(trained(spec_of(kForgetful, clip), 5), trained(spec_of(kByStep, clip), 5));
  expect_same_bits_at_every_budget(spec_of(kForgetful, 1), 4);
}

// The table: no optimizer, and no codec of its states, lets a bit depend on the budget.
TEST(OptimizerTable, every_optimizer_has_the_same_bits_at_every_budget) {
  for (const Optimizer* optimizer : optimizers())
    for (const Codec* states : {&kF32, &kInt8Block, &kBf16}) {
      if (states == &kBf16 && optimizer != &kAdamw && optimizer != &kSoap && !whole_tests())
        continue;  // rounded by chance: one mechanism
      SCOPED_TRACE(fmt::format("{} {}", optimizer->name, states->name));
      TrainingSpec spec = spec_of(*optimizer, 1);
      spec.states = states;
      const Trajectory expected = trained(spec, 2);
      ASSERT_TRUE(std::isfinite(expected.losses.back()));
      spec.disk = true, spec.disk_least_bytes = 4096;
      spec.budget_bytes = smallest_budget(spec);
      const auto plan = plan_training(spec, Machine{.disk = 1e9});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_LE(plan->bytes(), spec.budget_bytes);
      EXPECT_EQ(run_plan(spec, *plan, 2), expected);
    }
}

// States in the plan are those that the optimizer declares, in the codec that was asked for.
TEST(OptimizerTable, planned_states_are_the_declared_ones) {
  for (const Optimizer* optimizer : optimizers())
    for (const Codec* states : {&kF32, &kFp8}) {
      SCOPED_TRACE(fmt::format("{} {}", optimizer->name, states->name));
      TrainingSpec spec = spec_of(*optimizer);
      spec.states = states;
      const auto plan = plan_training(spec, Machine{});
      ASSERT_TRUE(plan) << plan.error().message;
      int64_t declared = 0;
      for (const TrainedParameter& parameter : plan->train.parameters) {
        const Parameter p{parameter.name, parameter.shape, parameter.name.find(".layers.") != std::string::npos,
                          parameter.head_rows};
        for (const StateSpec& state : optimizer->states(p, spec.optimizer_options)) {
          const StateSpec as = coded(state, *states);
          declared += (Type{as.shape, as.codec}.bytes() + 63) / 64 * 64;
        }
      }
      EXPECT_EQ(plan->layout.bytes(Role::state), declared);
    }
}

}  // namespace
}  // namespace thimble
