// Gradients that are not derived: right along their direction, in the memory of a forward pass, for any optimizer.
#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "core/random.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec probing_spec(const Rewrite& method = kFull, const Optimizer& optimizer = kSgd,
                          const Estimator& estimator = kMezo) {
  TrainingSpec spec = tiny_spec(method);
  spec.estimator = &estimator;
  spec.estimator_options = OptionValues(estimator.options);
  spec.optimizer = &optimizer;
  spec.optimizer_options = OptionValues(optimizer.options);
  spec.clip = 0;
  spec.activation = &kF32;
  return spec;
}

Trajectory trained(const TrainingSpec& spec, int steps, double rate) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? run_plan(spec, *plan, steps, rate) : Trajectory{};
}

std::vector<double> difference(const Trajectory& a, const Trajectory& b) {
  std::vector<double> out;
  for (size_t i = 0; i < a.parameters.size(); ++i)
    out.push_back(static_cast<double>(a.parameters[i]) - static_cast<double>(b.parameters[i]));
  return out;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// Of a constant the derivative is none, of the position itself it is one.
TEST(Estimator, probes_make_a_derivative) {
  for (const Estimator* estimator : estimators())
    for (const double one_sided : {0.0, 1.0}) {
      if (!estimator->probes) continue;
      SCOPED_TRACE(estimator->name);
      OptionValues options(estimator->options);
      if (options.has("one_sided")) ASSERT_TRUE(options.set("test", "one_sided", one_sided));
      double constant = 0, linear = 0;
      for (const Probe& probe : estimator->probes(options))
        constant += probe.weight, linear += probe.weight * probe.position;
      EXPECT_EQ(constant, 0);
      EXPECT_EQ(linear, 1);
    }
}

// The step is d z, with z of unit variance and d the derivative along z: its product with the exact gradient is d^2.
TEST(Estimator, steps_along_the_derivative_of_its_direction) {
  constexpr double kRate = 1;  // one step: it is linear in the rate
  TrainingSpec spec = probing_spec();
  ASSERT_TRUE(spec.estimator_options.set("mezo", "epsilon", 2e-4));
  for (const double directions : {1.0, 3.0}) {
    SCOPED_TRACE(fmt::format("directions {}", directions));
    ASSERT_TRUE(spec.estimator_options.set("mezo", "directions", directions));
    // Without a rate the parameters come back to where they began, but for the rounding of the moves.
    const Trajectory begin = trained(spec, 1, 0), moved = trained(spec, 1, kRate);
    TrainingSpec exact = spec;
    exact.estimator = &kBackprop;
    const std::vector<double> gradient = difference(begin, trained(exact, 1, kRate)), step = difference(begin, moved);
    const double along = dot(gradient, step) / (kRate * kRate), length = dot(step, step) / (kRate * kRate);
    ASSERT_GT(length, 0);
    // g = sum d_k z_k / n: g . gradient = sum d_k^2 / n, |g|^2 = N sum d_k^2 / n^2
    const auto numbers = static_cast<double>(step.size());
    EXPECT_NEAR(along * numbers / (length * directions), 1, 0.05);
  }
}

// Every group of layers has a direction and a derivative of its own: the same holds of each.
TEST(Estimator, groups_of_layers_step_along_derivatives_of_their_own) {
  TrainingSpec spec = probing_spec();
  ASSERT_TRUE(spec.estimator_options.set("mezo", "epsilon", 2e-4));
  ASSERT_TRUE(spec.estimator_options.set("mezo", "blocks", 2.0));
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const Trajectory begin = run_plan(spec, *plan, 1, 0), moved = run_plan(spec, *plan, 1, 1);
  TrainingSpec exact = spec;
  exact.estimator = &kBackprop;
  const std::vector<double> gradient = difference(begin, trained(exact, 1, 1)), step = difference(begin, moved);
  double along[2] = {}, length[2] = {}, numbers[2] = {};
  size_t at = 0;
  std::set<int> layers;
  for (const TrainedParameter& parameter : by_name(*plan)) {
    layers.insert(parameter.layer);
    const int group = parameter.layer >= 2;  // of four layers
    const size_t end = at + static_cast<size_t>(parameter.shape.count());
    numbers[group] += static_cast<double>(end - at);
    for (; at < end; ++at) along[group] += gradient[at] * step[at], length[group] += step[at] * step[at];
  }
  EXPECT_EQ(layers, (std::set<int>{-1, 0, 1, 2, 3}));
  for (int group : {0, 1}) {
    ASSERT_GT(length[group], 0);
    EXPECT_NEAR(along[group] * numbers[group] / length[group], 1, 0.05) << group;
  }
  EXPECT_GT(std::abs(length[0] / numbers[0] - length[1] / numbers[1]), 1e-3 * length[0] / numbers[0]);
}

// Where the step would raise the loss, on either side, none is taken; where it lowers it, it is the usual one.
TEST(Estimator, conservative_steps_go_where_the_loss_is_least) {
  TrainingSpec spec = probing_spec(), usual = probing_spec();
  ASSERT_TRUE(spec.estimator_options.set("mezo", "conservative", 1.0));
  const auto distance = [](const Trajectory& a, const Trajectory& b) {
    const std::vector<double> d = difference(a, b);
    return std::sqrt(dot(d, d));
  };
  const Trajectory begin = trained(usual, 1, 0);
  const double small = 1e-3, large = 100;
  const double step = distance(begin, trained(usual, 1, small));
  EXPECT_LT(distance(trained(spec, 1, small), trained(usual, 1, small)), 0.05 * step);
  EXPECT_LT(distance(trained(spec, 1, large), begin), 1e-3 * distance(trained(usual, 1, large), begin));
}

// The largest numbers of every matrix stay; what moves is as many as were asked for, and its step is along the
// gradient.
TEST(Estimator, sparse_steps_leave_the_largest_numbers) {
  TrainingSpec spec = probing_spec();
  ASSERT_TRUE(spec.estimator_options.set("mezo", "epsilon", 2e-4));
  ASSERT_TRUE(spec.estimator_options.set("mezo", "sparsity", 0.75));
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_TRUE(plan->programs.empty()) << "parameters are not moved in place";
  const Trajectory begin = run_plan(spec, *plan, 1, 0), moved = run_plan(spec, *plan, 1, 1);
  EXPECT_EQ(run_plan(spec, *plan, 0).parameters, begin.parameters) << "they stay where they are, bit for bit";
  TrainingSpec exact = spec;
  exact.estimator = &kBackprop;
  const std::vector<double> gradient = difference(begin, trained(exact, 1, 1)), step = difference(begin, moved);
  size_t at = 0;
  double along = 0, length = 0, numbers = 0;
  for (const TrainedParameter& parameter : by_name(*plan)) {
    const size_t first = at, end = at + static_cast<size_t>(parameter.shape.count());
    double least_left = 1e9, most_moved = 0;
    for (at = first; at < end; ++at) {
      const double size = std::abs(begin.parameters[at]);
      if (step[at] == 0) {
        least_left = std::min(least_left, size);
        continue;
      }
      most_moved = std::max(most_moved, size);
      ++numbers, along += gradient[at] * step[at], length += step[at] * step[at];
    }
    if (parameter.shape.rank() < 2) continue;
    EXPECT_LT(most_moved, least_left) << parameter.name;
    const auto stay = std::count(step.begin() + static_cast<long>(first), step.begin() + static_cast<long>(end), 0.0);
    EXPECT_NEAR(static_cast<double>(stay) / static_cast<double>(end - first), 0.75, 0.05) << parameter.name;
  }
  EXPECT_NEAR(along * numbers / length, 1, 0.05);
  // A budget changes nothing.
  const Trajectory expected = run_plan(spec, *plan, 2);
  spec.disk = true, spec.disk_least_bytes = 4096;
  spec.budget_bytes = smallest_budget(spec);
  const auto least = plan_training(spec, Machine{});
  ASSERT_TRUE(least) << least.error().message;
  EXPECT_EQ(run_plan(spec, *least, 2), expected);
}

// A matrix that is zero has no largest numbers: what adapters begin with would never move.
TEST(Estimator, sparse_steps_move_adapters_that_begin_at_zero) {
  TrainingSpec spec = probing_spec();
  spec.rewrites = {rewrite_for_tests(kLora, spec.architecture)};
  ASSERT_TRUE(spec.estimator_options.set("mezo", "sparsity", 0.75));
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const std::vector<double> step = difference(run_plan(spec, *plan, 1, 0), run_plan(spec, *plan, 1, 1));
  size_t at = 0;
  for (const TrainedParameter& parameter : by_name(*plan)) {
    const auto begin = step.begin() + static_cast<long>(at);
    at += static_cast<size_t>(parameter.shape.count());
    if (parameter.name.find("lora_B") == std::string::npos) continue;
    EXPECT_EQ(std::count(begin, step.begin() + static_cast<long>(at), 0.0), 0) << parameter.name;
  }
}

TEST(Estimator, sign_is_all_that_is_taken) {
  TrainingSpec spec = probing_spec();
  ASSERT_TRUE(spec.estimator_options.set("mezo", "sign", 1.0));
  const std::vector<double> step = difference(trained(spec, 1, 0), trained(spec, 1, 0.5));
  for (double number : step) ASSERT_NEAR(std::abs(number), 0.5, 1e-3);
}

// Every optimizer that takes a whole gradient, on full weights and on adapters: a budget changes nothing.
TEST(Estimator, any_optimizer_has_the_same_bits_at_every_budget) {
  for (const Optimizer* optimizer : optimizers())
    for (const Rewrite* method : {&kFull, &kLora}) {
      SCOPED_TRACE(fmt::format("{} {}", optimizer->name, method->name));
      if (method == &kLora && optimizer != &kSgd && optimizer != &kAdamw) continue;
      TrainingSpec spec = probing_spec(*method, *optimizer);
      spec.batch = 1, spec.context = 64;
      const auto plenty = plan_training(spec, Machine{});
      if (optimizer->accumulator || optimizer->hooks.curvature) {
        ASSERT_FALSE(plenty);
        EXPECT_THAT(plenty.error().message, testing::HasSubstr("--estimator mezo"));
        continue;
      }
      ASSERT_TRUE(plenty) << plenty.error().message;
      const Trajectory expected = run_plan(spec, *plenty, 2);
      for (double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
      EXPECT_NE(expected.losses[0], expected.losses[1]);
      spec.disk = true, spec.disk_least_bytes = 4096;
      spec.budget_bytes = smallest_budget(spec);
      const auto least = plan_training(spec, Machine{});
      ASSERT_TRUE(least) << least.error().message;
      EXPECT_EQ(least->numerics_hash, plenty->numerics_hash);
      EXPECT_EQ(run_plan(spec, *least, 2), expected);
    }
}

TrainingSpec forward_spec(const Rewrite& method = kFull, const Optimizer& optimizer = kSgd) {
  return probing_spec(method, optimizer, kForwardGradient);
}

// Baydin et al. 2022, definition 1: with d the derivative along z the step is d z, so that its product with the exact
// gradient is d^2. The same z gives mezo's step, whose d is a central difference.
TEST(ForwardGradient, numerics_are_those_of_any_pass) {
  TrainingSpec spec = forward_spec(kFull);
  const auto whole = build_training(spec, 1024, true), half = build_training(spec, 512, true);
  ASSERT_TRUE(whole && half);
  EXPECT_EQ(whole->graph.numerics_hash(), half->graph.numerics_hash());
}

TEST(ForwardGradient, derivative_is_exact) {
  for (const Rewrite* method : {&kFull, &kLora}) {
    SCOPED_TRACE(method->name);
    TrainingSpec spec = forward_spec(*method), probing = probing_spec(*method), exact = forward_spec(*method);
    ASSERT_TRUE(probing.estimator_options.set("mezo", "epsilon", 2e-4));
    exact.estimator = &kBackprop;
    const Trajectory begin = trained(spec, 1, 0);
    EXPECT_EQ(begin.parameters, trained(spec, 0, 0).parameters) << "parameters do not move but in the update";
    const std::vector<double> step = difference(begin, trained(spec, 1, 1)),
                              probed = difference(trained(probing, 1, 0), trained(probing, 1, 1)),
                              gradient = difference(begin, trained(exact, 1, 1));
    // d from the step: z is drawn as that of a step with derivative 1 would be, |z|^2 close to its length.
    const double along = dot(gradient, step), length = dot(step, step);
    ASSERT_GT(length, 0);
    EXPECT_NEAR(along * static_cast<double>(step.size()) / length, 1, 0.05);
    EXPECT_NEAR(dot(step, probed) / length, 1, 1e-2) << "a central difference along the same direction";
  }
}

// (grad . z)^2 / |grad|^2 has mean 1 and variance 2; along a direction that is orthogonal to the gradient the mean of
// the step is 0, with the variance of a product of two independent normal numbers.
TEST(ForwardGradient, is_unbiased) {
  constexpr int kDraws = 400;
  TrainingSpec spec = forward_spec(kLora), exact = forward_spec(kLora);
  for (TrainingSpec* each : {&spec, &exact}) each->batch = 1, each->context = 32;
  exact.estimator = &kBackprop;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const Trajectory begin = trained(exact, 0, 0);
  const std::vector<double> gradient = difference(begin, trained(exact, 1, 1));
  const double square = dot(gradient, gradient);
  std::vector<double> other(gradient.size());
  const Random random(9, "other");
  for (size_t i = 0; i < other.size(); ++i) other[i] = static_cast<double>(random.normal(i));
  const double common = dot(other, gradient) / square;
  for (size_t i = 0; i < other.size(); ++i) other[i] -= common * gradient[i];
  const double scale = std::sqrt(dot(other, other) * square);
  double along = 0, across = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    const std::vector<double> step =
        difference(begin, run_plan(spec, *plan, 1, 1, nullptr, static_cast<uint64_t>(draw)));
    along += dot(step, gradient) / square / kDraws, across += dot(step, other) / scale / kDraws;
  }
  EXPECT_NEAR(along, 1, 3 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(across, 0, 3 * std::sqrt(1.0 / kDraws));
}

// The mean over directions: what each adds is orthogonal to the others but for chance.
TEST(ForwardGradient, directions_are_averaged) {
  TrainingSpec spec = forward_spec(), exact = forward_spec();
  ASSERT_TRUE(spec.estimator_options.set("forward_gradient", "directions", 3.0));
  exact.estimator = &kBackprop;
  const Trajectory begin = trained(spec, 1, 0);
  const std::vector<double> step = difference(begin, trained(spec, 1, 1)),
                            gradient = difference(begin, trained(exact, 1, 1));
  EXPECT_NEAR(dot(gradient, step) * static_cast<double>(step.size()) / (3 * dot(step, step)), 1, 0.05);
}

TEST(ForwardGradient, has_the_same_bits_at_every_budget) {
  for (const Rewrite* method : {&kFull, &kLora})
    for (const Codec* activation : {&kF32, &kBf16}) {
      SCOPED_TRACE(fmt::format("{} {}", method->name, activation->name));
      TrainingSpec spec = forward_spec(*method, method == &kLora ? kAdamw : kSgd);
      spec.activation = activation;
      expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
    }
}

// Kept activations are none; beside what evaluation takes there are the derivatives of the values that are alive, and
// of full weights the direction of one matrix at a time.
TEST(ForwardGradient, keeps_no_activations) {
  int64_t arena[2];
  for (const int64_t layers : {4, 16}) {
    TrainingSpec spec = forward_spec(kLora);
    spec.architecture = tiny_llama(layers);
    spec.rewrites = {rewrite_for_tests(kLora, spec.architecture)};
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(plan->layout.bytes(Role::gradient), 0);
    arena[layers == 16] = plan->transient_bytes;
  }
  EXPECT_EQ(arena[0], arena[1]) << "the working memory does not depend on the depth";
}

// The product of the exact gradient with the step over d^2, d the derivative that the step was made of: 1, whatever was
// drawn.
TEST(ForwardGradient, every_method_has_the_derivative) {
  for (const Rewrite* method : methods_for_tests()) {
    SCOPED_TRACE(method->name);
    TrainingSpec spec = forward_spec(*method);
    spec.batch = 1, spec.context = 64;
    for (auto& [name, module] : spec.rewrites.front().modules)  // what is lost beside the objective has gradients alone
      for (const char* const beside : {"balance", "redundancy"})
        if (module.options.has(beside)) ASSERT_TRUE(module.options.set(method->name, beside, 0.0));
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    if (std::ranges::any_of(plan->train.adapter, [](const AdapterTensor& tensor) { return tensor.rate != 1; }))
      continue;
    TrainingSpec exact = spec;
    exact.estimator = &kBackprop;
    const Trajectory begin = trained(exact, 0, 0);
    const std::vector<double> gradient = difference(begin, trained(exact, 1, 1));
    double d = 0;
    const std::vector<double> step =
        difference(begin, run_plan(spec, *plan, 1, 1, [&](Values& values) {
                     d = *reinterpret_cast<const float*>(values.memory(*plan->layout.find(derivative_name(0))));
                   }));
    ASSERT_GT(std::abs(d), 1e-5 * std::sqrt(dot(gradient, gradient)));
    EXPECT_NEAR(dot(step, gradient) / (d * d), 1, 1e-2);
  }
}

// Zhang et al. 2024, hybrid ZO-FO: the last layers have the exact gradient, the others a step along a direction of
// theirs, whose product with their exact gradient is the square of the derivative.
TEST(ForwardGradient, derives_the_gradients_of_the_last_layers) {
  for (const Rewrite* method : {&kFull, &kLora}) {
    SCOPED_TRACE(method->name);
    TrainingSpec spec = forward_spec(*method), exact = forward_spec(*method);
    ASSERT_TRUE(spec.estimator_options.set("forward_gradient", "layers", 2.0));
    exact.estimator = &kBackprop;
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    const Trajectory begin = trained(exact, 0, 0);
    const std::vector<double> gradient = difference(begin, trained(exact, 1, 1));
    double d = 0;
    const std::vector<double> step =
        difference(begin, run_plan(spec, *plan, 1, 1, [&](Values& values) {
                     d = *reinterpret_cast<const float*>(values.memory(*plan->layout.find(derivative_name(0))));
                   }));
    const Graph& graph = plan->train.graph;
    double along = 0;
    size_t at = 0, derived = 0;
    for (const TrainedParameter& parameter : by_name(*plan)) {
      const size_t end = at + static_cast<size_t>(parameter.shape.count());
      const bool late = parameter.layer >= 2 || parameter.name == "model.norm.weight";
      EXPECT_EQ(graph.find("gradient." + parameter.name) != kNone, late) << parameter.name;
      for (; at < end; ++at)
        if (late) {
          ASSERT_NEAR(step[at], gradient[at], 1e-6);
          ++derived;
        } else {
          along += gradient[at] * step[at];
        }
    }
    EXPECT_GT(derived, 0U);
    EXPECT_NEAR(along / (d * d), 1, 1e-2);
    expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
  }
  TrainingSpec all = forward_spec(kLora);
  ASSERT_TRUE(all.estimator_options.set("forward_gradient", "layers", 4.0));
  const auto refused = plan_training(all, Machine{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("forward_gradient.layers=4"));
}

// Malladi et al., section 2: training costs what inference does.
// Each of the program's moves along the direction draws it anew.
TEST(Estimator, drawing_takes_time_in_the_plan) {
  const TrainingSpec spec = probing_spec(kLora);
  const auto fast = plan_training(spec, Machine{}), slow = plan_training(spec, Machine{.draw = 1e5});
  ASSERT_TRUE(fast && slow);
  double numbers = 0;
  for (const TrainedParameter& parameter : fast->train.parameters)
    numbers += static_cast<double>(parameter.shape.count());
  EXPECT_GT(slow->seconds - fast->seconds, 2.9 * numbers / 1e5);
}

TEST(Estimator, takes_no_more_memory_than_evaluating) {
  TrainingSpec spec = probing_spec();
  spec.evaluates = true;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan);
  int64_t weights = 0;
  for (const auto& [name, entry] : plan->layout.entries())
    if (entry.role == Role::parameter) weights += entry.type.bytes();
  ASSERT_TRUE(plan->find(kEvaluation));
  const int64_t evaluating = plan->find(kEvaluation)->schedule.peak_bytes;
  ASSERT_GT(evaluating, 0);
  EXPECT_LE(static_cast<double>(plan->arena_bytes), 1.1 * static_cast<double>(weights + evaluating));
  EXPECT_EQ(plan->layout.bytes(Role::gradient), 0);
}

}  // namespace
}  // namespace thimble
