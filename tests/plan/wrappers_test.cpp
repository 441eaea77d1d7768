// What goes around an optimizer, planned and run: lookahead and gradient noise around plain gradient descent.
#include <cmath>

#include "methods/optimizers/update_expr.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec spec_of(const std::string& names, const std::vector<std::pair<std::string, std::string>>& settings = {}) {
  TrainingSpec spec = tiny_spec();
  spec.set_optimizer(*optimizer_stack_named(names));
  for (auto& [wrapper, options] : spec.wrappers)
    for (const auto& [name, value] : settings)
      EXPECT_TRUE(!options.has(name) || options.set(wrapper->name, name, value));
  return spec;
}

Trajectory trained(const TrainingSpec& spec, int steps) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? run_plan(spec, *plan, steps) : Trajectory{};
}

TEST(Wrappers, lookahead_meets_part_of_the_way) {
  const auto begun = trained(spec_of("sgd"), 0).parameters;
  for (const char* optimizer : {"sgd", "adamw"}) {
    const std::string names = std::string(optimizer) + ",lookahead";
    const auto fast = trained(spec_of(optimizer), 2).parameters;
    EXPECT_EQ(trained(spec_of(names, {{"k", "1"}, {"alpha", "1"}}), 2).parameters, fast);
    EXPECT_EQ(trained(spec_of(names, {{"k", "1"}, {"alpha", "0"}}), 3).parameters, begun);
    EXPECT_EQ(trained(spec_of(names, {{"k", "3"}}), 2).parameters, fast) << "before they meet";
    const auto met = trained(spec_of(names, {{"k", "2"}, {"alpha", "0.25"}}), 2).parameters;
    ASSERT_EQ(met.size(), fast.size());
    for (size_t i = 0; i < met.size(); i += 17)
      ASSERT_NEAR(met[i], begun[i] + 0.25 * (fast[i] - begun[i]), 1e-6) << optimizer << " " << i;
  }
}

TEST(Wrappers, gradient_noise_has_its_variance) {
  const TrainingSpec plain = spec_of("sgd");
  EXPECT_EQ(trained(spec_of("sgd,gradient_noise", {{"eta", "0"}}), 2).parameters, trained(plain, 2).parameters);
  const auto clean = trained(plain, 1).parameters;
  const auto noisy = trained(spec_of("sgd,gradient_noise", {{"eta", "0.25"}}), 1).parameters;
  constexpr double kRate = 1e-2;  // of run_plan
  double mean = 0, squares = 0;
  for (size_t i = 0; i < clean.size(); ++i) {
    const double noise = (double{clean[i]} - noisy[i]) / kRate;
    mean += noise, squares += noise * noise;
  }
  const auto count = static_cast<double>(clean.size());
  EXPECT_NEAR(mean / count, 0, 5 * 0.5 / std::sqrt(count));
  EXPECT_NEAR(squares / count, 0.25, 5 * 0.25 * std::sqrt(2 / count));
}

TEST(Wrappers, the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of("adamw,gradient_noise,lookahead", {{"k", "2"}});
  spec.accumulate = 2;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
  spec = spec_of("adamw,keep_zeros");
  spec.accumulate = 2;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
}

// Where nothing is zero, nothing is changed.
TEST(Wrappers, keep_zeros_leaves_the_others) {
  for (const char* optimizer : {"adamw", "muon"})
    EXPECT_EQ(trained(spec_of(std::string(optimizer) + ",keep_zeros"), 3).parameters,
              trained(spec_of(optimizer), 3).parameters);
}

// A wrapper that only these tests have: its state begins anew every second step and counts the steps in between.
std::vector<StateSpec> count(const Parameter&, const OptionValues&) {
  return {{.name = "count", .shape = {1}, .initial = 5, .reset_every = 2}};
}
void push_by_count(Update& u) {
  Fused f(u.graph, "pushed." + u.name());
  const Expr next = f.scalar(u.states[0]) + 1;
  f.store(u.parameter, f.tensor(u.parameter) + next);
  f.emit();
  Fused g(u.graph, "counted." + u.name());
  g.store(u.states[0], g.tensor(u.states[0]) + 1);
  g.emit();
}

TEST(Wrappers, states_are_reset) {
  const Wrapper counting = {
      .name = "counting", .summary = "", .paper = "", .options = {}, .states = count, .after = push_by_count};
  TrainingSpec spec = spec_of("sgd");
  const auto begun = trained(spec, 0).parameters;
  spec.wrappers.push_back({&counting, OptionValues()});
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto pushed = run_plan(spec, *plan, 3, 0).parameters;
  for (size_t i = 0; i < begun.size(); i += 11) ASSERT_NEAR(pushed[i], begun[i] + 6 + 7 + 6, 1e-4) << i;
}

// What evaluation takes is made of the states that the optimizer names, of every parameter.
TEST(Wrappers, evaluation_reads_the_average) {
  for (const Rewrite* method : {&kFull, &kLora}) {
    TrainingSpec spec = tiny_spec(*method);
    spec.set_optimizer(*optimizer_stack_named("schedule_free"));
    spec.evaluates = true;
    for (bool disk : {false, true}) {
      spec.budget_bytes = 0;
      spec.disk = disk, spec.disk_least_bytes = 4096;
      spec.budget_bytes = smallest_budget(spec);
      const auto plan = plan_training(spec, Machine{.disk = 1e9});
      ASSERT_TRUE(plan) << plan.error().message;
      const Graph& graph = plan->programs.front().graph;
      for (const TrainedParameter& parameter : plan->train.parameters) {
        const ValueId state = graph.find("schedule_free.distance." + parameter.name);
        ASSERT_NE(state, kNone) << parameter.name;
        const auto reads = [&](const Node& node) { return std::ranges::count(node.in, state) > 0; };
        EXPECT_TRUE(std::ranges::any_of(graph.nodes(), reads)) << parameter.name;
        for (const Node& node : graph.nodes())
          EXPECT_TRUE(std::ranges::count(node.in, graph.find(parameter.name)) == 0 || reads(node)) << parameter.name;
      }
    }
  }
}

TEST(Wrappers, are_found_by_name) {
  EXPECT_EQ(optimizer_stack_named("lion")->wrappers.size(), 0u);
  EXPECT_EQ(optimizer_stack_named("lion,lookahead,gradient_noise")->wrappers.size(), 2u);
  EXPECT_TRUE(optimizer_stack_named("galore,lookahead"));
  for (const char* wrong :
       {"lookahead", "adamw,lookahed", "adamw,lion", "adamw,lookahead,lookahead", "galore,gradient_noise", "adamw,"})
    EXPECT_FALSE(optimizer_stack_named(wrong)) << wrong;
}

}  // namespace
}  // namespace thimble
