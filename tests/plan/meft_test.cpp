// meft, and models whose streams are coupled: what waits for the backward pass does not grow with the number of blocks,
// and gradients are those of kept activations within what the inverse loses.
#include <gmock/gmock.h>

#include <cmath>

#include "ops/couple.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

TrainingSpec deep_spec(const Rewrite& method, int64_t layers) {
  TrainingSpec spec = tiny_spec(method);
  spec.architecture = tiny_llama(layers);
  spec.architecture.coupled = &method == &kFull;
  spec.rewrites = {rewrite_for_tests(method, spec.architecture)};
  spec.keepers = *keepers_named("reversible");
  spec.batch = 4;
  spec.activation = &kF32;
  return spec;
}

TrainingSpec exact(TrainingSpec spec) {
  spec.keepers.clear();
  return spec;
}

int64_t kept_bytes(const TrainingSpec& spec) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  if (!plan) return 0;
  const auto item = std::ranges::find(plan->ledger.items, std::string_view("kept activations"), &LedgerItem::name);
  return item == plan->ledger.items.end() ? 0 : item->bytes;
}

// Norm of the difference of all gradients of the first step, of that of the gradients.
double gradient_error(const TrainingSpec& spec) {
  const auto gradients = [](const TrainingSpec& of) {
    std::vector<double> out;
    const auto plan = plan_training(of, Machine{});
    EXPECT_TRUE(plan) << plan.error().message;
    if (!plan) return out;
    run_plan(of, *plan, 1, 0, [&](Values& values) {
      for (const auto& [name, entry] : plan->layout.entries()) {
        if (entry.role != Role::gradient) continue;
        std::vector<float> numbers(static_cast<size_t>(entry.type.shape.count()));
        EXPECT_TRUE(values.read(entry, 0, std::as_writable_bytes(std::span(numbers))));
        out.insert(out.end(), numbers.begin(), numbers.end());
      }
    });
    return out;
  };
  const std::vector<double> found = gradients(spec), expected = gradients(exact(spec));
  double difference = 0, all = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    difference += (found[i] - expected[i]) * (found[i] - expected[i]), all += expected[i] * expected[i];
  EXPECT_GT(all, 0);
  return std::sqrt(difference / all);
}

class Coupled : public testing::TestWithParam<const Rewrite*> {};

TEST_P(Coupled, keeps_as_much_of_8_blocks_as_of_32) {
  const int64_t eight = kept_bytes(deep_spec(*GetParam(), 8));
  EXPECT_GT(eight, 0);
  EXPECT_EQ(kept_bytes(deep_spec(*GetParam(), 32)), eight);
  EXPECT_GT(kept_bytes(exact(deep_spec(*GetParam(), 32))), 3 * kept_bytes(exact(deep_spec(*GetParam(), 8))));
}

TEST_P(Coupled, reads_nothing_of_the_forward_pass_but_what_came_out_of_the_last_block) {
  const auto train = build_training(deep_spec(*GetParam(), 3), 512, true);
  ASSERT_TRUE(train) << train.error().message;
  const Graph& g = train->graph;
  for (const Node& node : g.nodes())
    for (const ValueId id : node.in) {
      if (node.phase != Phase::backward || id == kNone || g.producer(id) < 0) continue;
      const Node& maker = g.nodes()[static_cast<size_t>(g.producer(id))];
      if (maker.phase != Phase::forward || maker.block < 0) continue;
      EXPECT_EQ(maker.op, &kCouple) << g.value(id).name;
      EXPECT_EQ(maker.block, 2) << g.value(id).name;
    }
}

TEST_P(Coupled, trains_as_with_kept_activations) {
  TrainingSpec spec = deep_spec(*GetParam(), 8);
  const auto plan = plan_training(spec, Machine{}), kept = plan_training(exact(spec), Machine{});
  ASSERT_TRUE(plan && kept);
  const Trajectory run = run_plan(spec, *plan, 3), expected = run_plan(exact(spec), *kept, 3);
  EXPECT_EQ(run.losses[0], expected.losses[0]) << "the forward pass is the same";
  for (size_t i = 1; i < run.losses.size(); ++i) EXPECT_NEAR(run.losses[i], expected.losses[i], 1e-5);
  EXPECT_NE(run.losses[2], run.losses[0]);
}

TEST_P(Coupled, has_the_same_bits_at_every_budget) {
  TrainingSpec spec = deep_spec(*GetParam(), 4);
  spec.context = 256;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const Trajectory run = run_plan(spec, *plan, 3);
  spec.disk = true, spec.disk_least_bytes = 4096;
  spec.budget_bytes = smallest_budget(spec);
  const auto tight = plan_training(spec, Machine{});
  ASSERT_TRUE(tight) << tight.error().message;
  EXPECT_LT(tight->arena_bytes, plan->arena_bytes);
  EXPECT_EQ(run_plan(spec, *tight, 3), run);
}

INSTANTIATE_TEST_SUITE_P(Table, Coupled, testing::Values(&kMeft, &kFull),
                         [](const auto& info) { return std::string(info.param->name); });

// What the pages of meft and reversible promise, at the default lambda.
TEST(Meft, gradients_are_within_the_bounds_of_its_page) {
  EXPECT_LT(gradient_error(deep_spec(kMeft, 8)), 1e-6);
  EXPECT_LT(gradient_error(deep_spec(kMeft, 32)), 1e-4);
  EXPECT_LT(gradient_error(deep_spec(kFull, 32)), 1e-6) << "nothing is divided by less than 1";
}

TEST(Meft, begins_at_the_model_but_for_lambda) {
  TrainingSpec plain = tiny_spec(kLora);
  plain.activation = &kF32;
  const auto with_lora = plan_training(plain, Machine{});
  ASSERT_TRUE(with_lora);
  const double expected = run_plan(plain, *with_lora, 1).losses[0];  // B of LoRA is zero
  double last = 1;
  for (const double lambda : {0.5, 0.125, 1.0 / 1024}) {
    TrainingSpec spec = tiny_spec(kMeft);
    spec.activation = &kF32;
    for (auto& [name, module] : spec.rewrites[0].modules) ASSERT_TRUE(module.options.set("meft", "lambda", lambda));
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    const double off = std::abs(run_plan(spec, *plan, 1).losses[0] - expected);
    EXPECT_LT(off, last) << lambda;
    last = off;
  }
  EXPECT_LT(last, 1e-5);
}

TEST(Meft, depths_whose_digits_do_not_suffice_are_refused) {
  TrainingSpec spec = deep_spec(kMeft, 37);
  const auto refused = plan_training(spec, Machine{});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("give a lambda of 0.5"));
  const OptionValues options(kMeft.options);
  OptionValues other = options;
  ASSERT_TRUE(other.set("meft", "lambda", 0.1));
  EXPECT_TRUE(kMeft.check(options, 1, 1));
  ASSERT_FALSE(kMeft.check(other, 1, 1));
  EXPECT_THAT(kMeft.check(other, 1, 1).error().message, HasSubstr("a power of two"));
}

TEST(Meft, stacks_with_other_adapters) {
  TrainingSpec spec = deep_spec(kMeft, 3);
  for (const bool first : {true, false}) {
    spec.rewrites = {rewrite_for_tests(kMeft, spec.architecture), rewrite_for_tests(kLora, spec.architecture)};
    if (!first) std::swap(spec.rewrites[0], spec.rewrites[1]);
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    const Trajectory run = run_plan(spec, *plan, 3);
    EXPECT_NE(run.losses[2], run.losses[0]);
    EXPECT_LT(gradient_error(spec), 1e-6);
  }
}

TEST(Meft, is_refused_where_there_are_two_streams_already) {
  for (const Rewrite* method : {&kMeft, &kLst}) {
    TrainingSpec spec = deep_spec(*method, 2);
    spec.keepers.clear();
    spec.architecture.coupled = true;
    const auto refused = plan_training(spec, Machine{});
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("one"));
  }
}

TEST(Meft, a_model_with_one_stream_has_nothing_to_be_had_back) {
  TrainingSpec spec = tiny_spec(kLora);
  spec.keepers = *keepers_named("reversible");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_THAT(plan->train.idle_keepers, testing::ElementsAre("reversible"));
}

}  // namespace
}  // namespace thimble
