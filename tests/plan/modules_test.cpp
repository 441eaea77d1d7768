// Local learning: what a module learns from, that nothing passes between modules, and what is kept.
#include "plan/modules.h"

#include <gmock/gmock.h>

#include <cmath>
#include <set>

#include "plan/local_losses.h"

namespace thimble {
namespace {

TrainingSpec modules_spec(const Estimator& estimator, int64_t layers, double modules, const Rewrite& method = kFull) {
  TrainingSpec spec = tiny_spec(method);
  spec.architecture = tiny_llama(layers);
  spec.rewrites = {rewrite_for_tests(method, spec.architecture)};
  spec.estimator = &estimator;
  spec.estimator_options = OptionValues(estimator.options);
  if (estimator.modules) EXPECT_TRUE(spec.estimator_options.set(estimator.name, "modules", modules));
  spec.optimizer = &kSgd;
  spec.optimizer_options = OptionValues(kSgd.options);
  spec.clip = 0;
  spec.batch = 2, spec.context = 64;
  return spec;
}

// What one step of plain gradient descent leaves of every parameter.
Numbers after_a_step(const TrainingSpec& spec, const Numbers& begin = {}) {
  return thimble::after_a_step(spec, 1e-1, begin);
}

Numbers beginning(const TrainingSpec& spec) { return values_after(spec, 0, 0); }

bool in_blocks(const std::string& name, int first, int last) {
  for (int block = first; block <= last; ++block)
    if (name.starts_with(fmt::format("model.layers.{}.", block))) return true;
  return false;
}

// The first module is a model of its blocks alone: its weights move as that model's, bit for bit.
TEST(Modules, the_first_learns_as_a_model_of_its_blocks) {
  const TrainingSpec spec = modules_spec(kLocal, 4, 2);
  const Numbers begin = beginning(spec), local = after_a_step(spec);
  size_t compared = 0;
  for (const auto& [name, numbers] : after_a_step(modules_spec(kBackprop, 2, 0), begin)) {
    if (!in_blocks(name, 0, 1)) continue;
    EXPECT_NE(numbers, begin.at(name)) << name;
    EXPECT_EQ(local.at(name), numbers) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 18U);
}

// The last module reads what the others made as numbers: its blocks move as in the whole model, the others do not.
TEST(Modules, the_last_learns_as_in_the_whole_model) {
  const Numbers local = after_a_step(modules_spec(kLocal, 4, 2)), whole = after_a_step(modules_spec(kBackprop, 4, 0));
  for (const auto& [name, numbers] : whole) {
    if (in_blocks(name, 2, 3)) EXPECT_EQ(local.at(name), numbers) << name;
    if (in_blocks(name, 0, 1)) EXPECT_NE(local.at(name), numbers) << name;
  }
}

// So it is with every objective: a module copies all that makes the loss of the last residual stream, with what the
// reference, the labels and the teacher say as the model's loss has it.
TEST(Modules, learn_by_every_objective) {
  for (const Objective* objective : objectives()) {
    SCOPED_TRACE(objective->name);
    TrainingSpec local = modules_spec(kLocal, 4, 2), first = modules_spec(kBackprop, 2, 0),
                 whole = modules_spec(kBackprop, 4, 0);
    for (TrainingSpec* spec : {&local, &first, &whole}) set_objective(*spec, *objective);
    const Numbers begin = beginning(local), moved = after_a_step(local), as_first = after_a_step(first, begin),
                  as_last = after_a_step(whole, begin);
    for (const auto& [name, numbers] : as_last) {
      const bool early = in_blocks(name, 0, 1);
      if (!early && !in_blocks(name, 2, 3)) continue;
      const std::vector<float>& expected = early ? as_first.at(name) : numbers;
      EXPECT_NE(expected, begin.at(name)) << name;
      EXPECT_EQ(moved.at(name), expected) << name;
    }
  }
}

TEST(Modules, have_the_same_bits_at_every_budget_with_any_objective) {
  for (const Objective* objective : {&kDpo, &kOrpo, &kKto, &kRegression, &kDistillation})
    for (const Rewrite* method : {&kFull, &kLora}) {
      SCOPED_TRACE(fmt::format("{} {}", objective->name, method->name));
      TrainingSpec spec = modules_spec(kLocal, 4, 2, *method);
      set_objective(spec, *objective);
      spec.set_optimizer({&kAdamw, {}});
      expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
    }
}

// What mixtures of adapters lose beside the objective is lost by the modules whose layers lose it: the first learns as
// a model of its blocks, balance included.
TEST(Modules, have_the_balance_of_their_experts) {
  for (const Rewrite* method : {&kMixlora, &kMole}) {
    SCOPED_TRACE(method->name);
    const auto with = [&](const Estimator& estimator, int64_t layers, double modules, double balance) {
      TrainingSpec spec = modules_spec(estimator, layers, modules, *method);
      spec.activation = &kF32;  // gradients of both losses are added in another order
      for (auto& [name, module] : spec.rewrites.front().modules)
        EXPECT_TRUE(module.options.set(method->name, "balance", balance));
      return spec;
    };
    const TrainingSpec spec = with(kLocal, 4, 2, 0.5);
    // Weights begin by the depth of their model.
    const Numbers begin = weights_at_the_beginning(spec), local = after_a_step(spec),
                  without = after_a_step(with(kLocal, 4, 2, 0), begin);
    size_t routers = 0;
    for (const auto& [name, numbers] : after_a_step(with(kBackprop, 2, 0, 0.5), begin)) {
      if (!in_blocks(name, 0, 1)) continue;
      for (size_t i = 0; i < numbers.size(); ++i) ASSERT_NEAR(local.at(name)[i], numbers[i], 1e-6) << name;
      if (name.find("router") == std::string::npos) continue;
      EXPECT_NE(without.at(name), numbers) << name;
      ++routers;
    }
    EXPECT_GT(routers, 0U);
    expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
  }
}

// The last norm, which all modules read, has the sum of the gradients of all losses: that of a model of the first
// module's blocks, and that of the whole model by its last module, which is the whole model's but for the embedded
// text.
TEST(Modules, what_they_share_has_the_sum_of_their_gradients) {
  const TrainingSpec spec = modules_spec(kLocal, 4, 2);
  const Numbers begin = beginning(spec), both = after_a_step(spec);
  const Numbers first = after_a_step(modules_spec(kBackprop, 2, 0), begin),
                last = after_a_step(modules_spec(kBackprop, 4, 0));
  const std::string norm = "model.norm.weight";
  for (size_t i = 0; i < begin.at(norm).size(); ++i) {
    const float at = begin.at(norm)[i];
    EXPECT_NEAR(both.at(norm)[i] - at, first.at(norm)[i] - at + last.at(norm)[i] - at, 1e-6);
  }
}

// Modules of two blocks: a model that is four times as deep keeps no more, where backpropagation keeps four times as
// much.
TEST(Modules, keep_the_activations_of_one) {
  for (const Estimator* estimator : {&kLocal, &kMan}) {
    SCOPED_TRACE(estimator->name);
    int64_t kept[2], transient[2];
    for (const int64_t layers : {8, 32}) {
      const auto plan = plan_training(modules_spec(*estimator, layers, static_cast<double>(layers) / 2), Machine{});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(turns(plan->train.graph, plan->pass).size(), static_cast<size_t>(layers / 2));
      kept[layers == 32] = kept_bytes(*plan), transient[layers == 32] = plan->transient_bytes;
    }
    // Beside the square of each gradient's norm, a number in 64 bytes.
    const int64_t norms = 64 * 24 * (9 + (estimator == &kMan ? 5 : 0));
    EXPECT_LE(kept[1] - kept[0], norms);
    EXPECT_LE(transient[1] - transient[0], norms);
  }
  const auto shallow = plan_training(modules_spec(kBackprop, 8, 0), Machine{}),
             deep = plan_training(modules_spec(kBackprop, 32, 0), Machine{});
  EXPECT_GT(kept_bytes(*deep), 3.5 * static_cast<double>(kept_bytes(*shallow)));
}

// A keeper has a module's activations as it has those of a model of the module's blocks.
TEST(Modules, have_activations_kept_otherwise) {
  for (const Keeper* keeper : {&kQ8Keeper, &kMesa, &kFewBit, &kMsNorm, &kWtaCrs}) {
    SCOPED_TRACE(keeper->name);
    TrainingSpec spec = modules_spec(kLocal, 4, 2), first = modules_spec(kBackprop, 2, 0);
    const Numbers begin = beginning(spec), exact = after_a_step(spec);
    const auto exact_bytes = kept_bytes(*plan_training(spec, Machine{}));
    spec.keepers = first.keepers = {KeeperUse(*keeper)};
    const Numbers local = after_a_step(spec);
    size_t compared = 0, otherwise = 0;
    for (const auto& [name, numbers] : after_a_step(first, begin)) {
      if (!in_blocks(name, 0, 1)) continue;
      EXPECT_EQ(local.at(name), numbers) << name;
      otherwise += local.at(name) != exact.at(name);
      ++compared;
    }
    EXPECT_EQ(compared, 18U);
    EXPECT_GT(otherwise, 0U);
    const auto plan = plan_training(spec, Machine{});
    EXPECT_LT(kept_bytes(*plan), exact_bytes);
    EXPECT_TRUE(plan->train.idle_keepers.empty());
    for (const Estimator* estimator : {&kLocal, &kMan}) {
      TrainingSpec any = modules_spec(*estimator, 4, 2);
      any.keepers = spec.keepers;
      any.set_optimizer({&kAdamw, {}});
      expect_same_bits_at_the_smallest_budget_and_on_disk(any, 2);
    }
  }
}

TEST(Modules, have_the_same_bits_at_every_budget) {
  for (const Estimator* estimator : {&kLocal, &kMan})
    for (const Rewrite* method : {&kFull, &kLora}) {
      if (estimator == &kMan && method == &kLora) continue;
      SCOPED_TRACE(fmt::format("{} {}", estimator->name, method->name));
      TrainingSpec spec = modules_spec(*estimator, 4, 2, *method);
      spec.set_optimizer({&kAdamw, {}});
      for (const double clip : {0.0, 1.0}) {
        spec.clip = clip;
        expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
      }
    }
}

// Su et al. 2024, equation of the average, over two steps in double; nothing else moves it.
TEST(Man, averages_the_next_block) {
  TrainingSpec spec = modules_spec(kMan, 4, 2);
  ASSERT_TRUE(spec.estimator_options.set("man", "momentum", 0.75));
  const auto zero = values_after(spec, 0, 0), one = values_after(spec, 1, 1e-1), two = values_after(spec, 2, 1e-1);
  size_t blocks = 0;
  for (const auto& [name, before] : zero) {
    if (!name.starts_with(kAverage)) continue;
    const std::string of = name.substr(std::string_view(kAverage).size());
    ASSERT_TRUE(of.starts_with("model.layers.2.")) << of;
    ++blocks;
    for (size_t i = 0; i < before.size(); ++i) {
      const double first = 0.75 * double{before[i]} + 0.25 * double{zero.at(of)[i]};
      const double second = 0.75 * first + 0.25 * double{one.at(of)[i]};
      ASSERT_NEAR(one.at(name)[i], first, 1e-6) << name;
      ASSERT_NEAR(two.at(name)[i], second, 1e-6) << name;
    }
  }
  EXPECT_EQ(blocks, 9U) << "weights of one block";
}

// The loss of the first module is that of a model whose last block is the sum of both: with the average at zero weights
// and so without effect but for its residual stream, what learns beside it moves.
TEST(Man, what_is_beside_the_average_learns_and_hears_the_loss) {
  const auto begin = values_after(modules_spec(kMan, 4, 2), 0, 0), end = after_a_step(modules_spec(kMan, 4, 2));
  const auto local = after_a_step(modules_spec(kLocal, 4, 2));
  size_t moved = 0;
  for (const auto& [name, numbers] : end)
    if (name.starts_with(kBeside)) moved += numbers != begin.at(name);
  EXPECT_EQ(moved, 9U);
  EXPECT_NE(end.at("model.layers.0.mlp.up_proj.weight"), local.at("model.layers.0.mlp.up_proj.weight"));
  EXPECT_EQ(end.at("model.layers.3.mlp.up_proj.weight"), local.at("model.layers.3.mlp.up_proj.weight"));
}

// Where nobody says how many modules there are, a model of few blocks has one for each.
TEST(Modules, are_as_many_as_there_are_blocks_where_none_is_given) {
  for (const Estimator* estimator : {&kLocal, &kMan, &kForwardForward}) {
    SCOPED_TRACE(estimator->name);
    TrainingSpec spec = modules_spec(*estimator, 3, 2), given = modules_spec(*estimator, 3, 3);
    spec.estimator_options = OptionValues(estimator->options);
    ASSERT_GT(spec.estimator_options["modules"], 3);
    EXPECT_EQ(after_a_step(spec), after_a_step(given));
    ASSERT_TRUE(spec.estimator_options.set(estimator->name, "modules", spec.estimator_options["modules"]));
    const auto refused = plan_training(spec, Machine{});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("the model has 3 blocks"));
  }
  TrainingSpec one = modules_spec(kLocal, 1, 2);
  one.estimator_options = OptionValues(kLocal.options);
  const auto refused = plan_training(one, Machine{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("take --estimator backprop"));
}

TEST(Modules, refuse_what_they_are_not_for) {
  const auto error = [](const TrainingSpec& spec) {
    const auto plan = plan_training(spec, Machine{});
    EXPECT_FALSE(plan);
    return plan ? "" : plan.error().message;
  };
  EXPECT_THAT(error(modules_spec(kLocal, 4, 5)), testing::HasSubstr("the model has 4 blocks"));
  EXPECT_THAT(error(modules_spec(kMan, 4, 2, kLora)), testing::HasSubstr("take --method full"));
  EXPECT_THAT(error(modules_spec(kLocal, 4, 2, kLst)), testing::HasSubstr("--method lst"));
  TrainingSpec sophia = modules_spec(kLocal, 4, 2);
  sophia.set_optimizer({&kSophia, {}});
  EXPECT_THAT(error(sophia), testing::HasSubstr("--optimizer sophia"));
  TrainingSpec turns = modules_spec(kLocal, 4, 2);
  turns.selector = &kLisa, turns.selector_options = OptionValues(kLisa.options);
  EXPECT_THAT(error(turns), testing::HasSubstr("--select lisa"));
  TrainingSpec scored = modules_spec(kMan, 4, 2);
  scored.selector = &kSurgical, scored.selector_options = OptionValues(kSurgical.options);
  EXPECT_THAT(error(scored), testing::HasSubstr("take --estimator local"));
}

}  // namespace
}  // namespace thimble
