// Activations that are kept in another form: fewer bytes, nearly the same losses, the same bits at every budget.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/candidates.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr double kClose = 0.01;  // nats

// A keeper that some method brings is for what that makes of a model.
bool is_of_a_method(const Keeper& keeper) {
  return std::ranges::any_of(rewrites(), [&](const Rewrite* method) { return method->keeper == keeper.name; });
}

TrainingSpec kept_by(TrainingSpec spec, const Keeper& keeper) {
  spec.keepers.clear();
  if (!keeper.exact()) spec.keepers.emplace_back(keeper);
  return spec;
}

// Two blocks, of which a step makes two passes at the least budget.
TrainingSpec small_spec(const Rewrite& method = kFull) {
  TrainingSpec spec = tiny_spec(method);
  spec.architecture = llama({.vocab = 160,
                             .width = 64,
                             .layers = 2,
                             .heads = 4,
                             .kv_heads = 2,
                             .head_dim = 16,
                             .ffn_width = 128,
                             .context = 256});
  spec.batch = 4, spec.context = 256;
  spec.rewrites = {rewrite_for_tests(method, spec.architecture)};
  return spec;
}

Trajectory trained(const TrainingSpec& spec, int steps) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? run_plan(spec, *plan, steps) : Trajectory{};
}

TEST(Keeper, is_close_to_exact_and_the_same_at_every_budget) {
  constexpr int kSteps = 3;
  const Trajectory expected = trained(small_spec(), kSteps);
  for (const Keeper* keeper : keepers()) {
    if (keeper->exact() || is_of_a_method(*keeper)) continue;
    SCOPED_TRACE(keeper->name);
    TrainingSpec spec = kept_by(small_spec(), *keeper);
    const Trajectory run = trained(spec, kSteps);
    EXPECT_EQ(run.losses[0], expected.losses[0]) << "the forward pass is exact";
    for (size_t i = 0; i < run.losses.size(); ++i) EXPECT_NEAR(run.losses[i], expected.losses[i], kClose);
    EXPECT_NE(run, expected) << "nothing was kept otherwise";
    spec.disk = true, spec.disk_least_bytes = 4096;
    spec.budget_bytes = smallest_budget(spec);
    const auto tight = plan_training(spec, Machine{});
    ASSERT_TRUE(tight) << tight.error().message;
    EXPECT_EQ(tight->passes, 2);
    EXPECT_EQ(run_plan(spec, *tight, kSteps), run);
  }
}

// Whatever a pass has of rows, statistics of granules and rows that are drawn included.
TEST(Keeper, has_the_same_numerics_in_passes_of_any_size) {
  const Machine machine;
  for (const Keeper* keeper : keepers()) {
    const TrainingSpec spec = kept_by(small_spec(is_of_a_method(*keeper) ? kMeft : kFull), *keeper);
    Estimates estimates;
    std::vector<std::string> hashes;
    for (const int64_t rows : {1024, 512}) {
      Candidates candidates(spec, machine, {.rows = rows}, estimates);
      PassBuilder builder(spec);
      ASSERT_TRUE(candidates.build(builder));
      hashes.push_back(candidates.numerics_hash());
    }
    EXPECT_EQ(hashes[0], hashes[1]) << keeper->name;
  }
}

// Without code for the pair, and all of them together.
TEST(Keeper, goes_with_every_kind_of_method_and_with_others) {
  for (const Rewrite* method : {&kLora, &kDora}) {
    const Trajectory expected = trained(small_spec(*method), 2);
    std::vector<std::string> stacks{"few_bit,ms_norm,wta_crs,mesa", "approx_bp,q8_0"};
    for (const Keeper* keeper : keepers())
      if (!keeper->exact() && !is_of_a_method(*keeper)) stacks.emplace_back(keeper->name);
    for (const std::string& stack : stacks) {
      SCOPED_TRACE(fmt::format("{} {}", stack, method->name));
      TrainingSpec spec = small_spec(*method);
      spec.keepers = *keepers_named(stack);
      const Trajectory run = trained(spec, 2);
      EXPECT_EQ(run.losses[0], expected.losses[0]);
      EXPECT_NEAR(run.losses[1], expected.losses[1], kClose);
    }
  }
}

// Without a barrier updates run in the backward pass, where a state is read to recompute; with several micro-batches
// what a step sees is of all of them.
TEST(Keeper, has_states_that_move_once_a_step) {
  TrainingSpec spec = kept_by(small_spec(), kMesa);
  spec.clip = 0;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_FALSE(plan->train.keeper_states.empty());
  const Trajectory run = run_plan(spec, *plan, 3);
  TrainingSpec clipped = spec;
  clipped.clip = 1e9;  // a barrier that scales by 1
  const auto barrier = plan_training(clipped, Machine{});
  ASSERT_TRUE(barrier) << barrier.error().message;
  EXPECT_EQ(run_plan(clipped, *barrier, 3), run);
  spec.budget_bytes = smallest_budget(spec);
  const auto tight = plan_training(spec, Machine{});
  ASSERT_TRUE(tight) << tight.error().message;
  EXPECT_EQ(run_plan(spec, *tight, 3), run);
}

double kept_bytes(const TrainingSpec& spec) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->choice.blocks.shallow, 0u) << "activations were given up";
  return static_cast<double>(ledger_bytes(*plan, "kept activations"));
}

// The numbers that their pages promise, of a Llama of SmolLM2's proportions. In bf16 a block keeps 8448 numbers of a
// row: 2 * 576 inputs of norms, as many of weights behind them, 960 queries, keys and values, 576 outputs of the
// attention, 2 * 1536 gates and ups, 1536 inputs of the last weight. What is outside of blocks stays.
TEST(Keeper, takes_the_bytes_that_its_page_says) {
  TrainingSpec spec = tiny_spec();
  spec.architecture = llama({.vocab = 160,
                             .width = 576,
                             .layers = 3,
                             .heads = 9,
                             .kv_heads = 3,
                             .head_dim = 64,
                             .ffn_width = 1536,
                             .context = 256});
  const double exact = kept_bytes(spec), rows = 3 * 4 * 256;
  const auto saved = [&](const Keeper& keeper) { return (exact - kept_bytes(kept_by(spec, keeper))) / rows; };
  EXPECT_LT(kept_bytes(kept_by(spec, kQ8Keeper)), 0.57 * exact);
  EXPECT_LT(kept_bytes(kept_by(spec, kMesa)), 0.55 * exact);
  constexpr double kPart = 0.99;  // statistics, scales, and what a row's number takes
  EXPECT_GT(saved(kCoat), kPart * (2 * 576 + 1536 + (2 * 576 + 2 * 1536) * 0.875));
  EXPECT_GT(saved(kFewBit), kPart * 1536 * 1.5);
  EXPECT_GT(saved(kApproxBp), kPart * 1536 * 1.75);
  EXPECT_GT(saved(kMsNorm), kPart * 2 * 576 * 2);
  // Of the attention's output its gradient reads all rows. At the end of the forward pass one value more is alive.
  EXPECT_GT(saved(kWtaCrs) + 576.0 * 2 / 3, kPart * 0.7 * (2 * 576 + 1536) * 2);
}

TEST(Keeper, the_states_have_a_line_of_the_ledger) {
  const auto plan = plan_training(kept_by(tiny_spec(), kMesa), Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  int64_t expected = 0;
  for (const std::string& name : plan->train.keeper_states)
    expected += (plan->layout.find(name)->type.bytes() + 63) / 64 * 64;
  const auto item = std::ranges::find(plan->ledger.items, std::string_view("keeper states"), &LedgerItem::name);
  ASSERT_NE(item, plan->ledger.items.end());
  EXPECT_EQ(item->bytes, expected);
}

// A keeper that the others, the model, or the estimator leave nothing.
TEST(Keeper, that_keeps_nothing_is_told) {
  const auto idle = [](const std::string& stack, Activation activation = Activation::silu,
                       const Estimator& estimator = kBackprop) {
    TrainingSpec spec = small_spec();
    for (Block& block : spec.architecture.blocks) block.ffn.activation = activation;
    spec.keepers = *keepers_named(stack);
    spec.estimator = &estimator, spec.estimator_options = OptionValues(estimator.options);
    if (!estimator.differentiates()) spec.set_optimizer({&kSgd, {}}), spec.clip = 0;
    const auto plan = plan_training(spec, Machine{});
    EXPECT_TRUE(plan) << plan.error().message;
    return plan ? fmt::format("{}", fmt::join(plan->train.idle_keepers, ",")) : "";
  };
  EXPECT_EQ(idle("few_bit,approx_bp"), "approx_bp");
  EXPECT_EQ(idle("approx_bp,few_bit"), "few_bit");
  EXPECT_EQ(idle("mesa,q8_0"), "q8_0");
  EXPECT_EQ(idle("mesa,ms_norm,q8_0"), "") << "what ms_norm keeps goes to the third";
  EXPECT_EQ(idle("few_bit", Activation::relu_squared), "few_bit");
  EXPECT_EQ(idle("approx_bp,q8_0"), "");
  EXPECT_EQ(idle("coat,mesa"), "") << "what an attention reads is left to the second";
  EXPECT_EQ(idle("mesa,few_bit", Activation::silu, kMezo), "mesa,few_bit") << "no backward pass waits";
}

TEST(Keeper, names_stack_and_wrong_ones_are_refused) {
  const auto two = keepers_named("mesa,q8_0");
  ASSERT_TRUE(two);
  EXPECT_EQ(two->size(), 2u);
  EXPECT_EQ((*two)[0].keeper, &kMesa);
  EXPECT_TRUE(keepers_named("exact")->empty());
  for (const auto& [names, word] :
       {std::pair{"mesa,mesa", "twice"}, {"exact,mesa", "exact"}, {"", "''"}, {"mes", "mesa"}}) {
    const auto refused = keepers_named(names);
    ASSERT_FALSE(refused) << names;
    EXPECT_THAT(refused.error().message, testing::HasSubstr(word));
  }
}

}  // namespace
}  // namespace thimble
