// Graphs are built once for passes of all sizes: taken to another number of tokens, a graph is what would have been
// built for that many, whatever the technique.
#include "plan/pass_programs.h"

#include <functional>

#include "models/mixer.h"
#include "models/norm.h"
#include "models/router.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

void expect_same(const Graph& taken, const Graph& built) {
  EXPECT_EQ(taken.text(), built.text());
  ASSERT_EQ(taken.values().size(), built.values().size());
  for (size_t i = 0; i < built.values().size(); ++i) {
    const Value &there = taken.values()[i], &value = built.values()[i];
    EXPECT_EQ(there.name, value.name);
    EXPECT_EQ(there.type, value.type) << value.name;
    EXPECT_EQ(there.initial.text(), value.initial.text()) << value.name;
  }
  const auto legal = taken.verify();
  EXPECT_TRUE(legal) << legal.error().message;
}

// Passes of a half and of a quarter of the tokens, from a builder that has made whole ones, and anew.
void expect_the_same_programs(TrainingSpec spec) {
  spec.clip = 1, spec.evaluates = true;
  const int64_t whole = spec.batch * spec.context;
  PassBuilder builder(spec);
  for (const int64_t rows : {whole, whole / 2, whole / 4})
    for (const bool keep_logits : {false, true}) {
      const auto taken = builder.build({rows, keep_logits});
      ASSERT_TRUE(taken) << taken.error().message;
      if (rows == whole || taken->train.whole_passes) continue;
      const auto built = PassBuilder(spec).build({rows, keep_logits});
      ASSERT_TRUE(built) << built.error().message;
      expect_same(taken->train.graph, built->train.graph);
      EXPECT_EQ(taken->train.graph.numerics_hash(), built->train.graph.numerics_hash());
      ASSERT_EQ(taken->programs.size(), built->programs.size());
      for (size_t i = 0; i < built->programs.size(); ++i)
        expect_same(taken->programs[i].graph, built->programs[i].graph);
      ASSERT_EQ(taken->variants.size(), built->variants.size());
      for (size_t i = 0; i < built->variants.size(); ++i)
        expect_same(taken->variants[i].train.graph, built->variants[i].train.graph);
    }
}

TEST(PassBuilder, takes_every_method_to_fewer_tokens) {
  for (const Rewrite* method : methods_for_tests()) {
    if (method->training_only) continue;  // planned for passes of one size
    SCOPED_TRACE(method->name);
    expect_the_same_programs(tiny_spec(*method));
  }
}

TEST(PassBuilder, takes_every_optimizer_to_fewer_tokens) {
  for (const Optimizer* optimizer : optimizers()) {
    if (optimizer->accumulator) continue;  // likewise
    SCOPED_TRACE(optimizer->name);
    TrainingSpec spec = tiny_spec();
    spec.optimizer = optimizer, spec.optimizer_options = OptionValues(optimizer->options);
    expect_the_same_programs(std::move(spec));
  }
}

TEST(PassBuilder, takes_every_objective_to_fewer_tokens) {
  for (const Objective* objective : objectives()) {
    SCOPED_TRACE(objective->name);
    TrainingSpec spec = tiny_spec(kLora);
    set_objective(spec, *objective);
    expect_the_same_programs(std::move(spec));
  }
}

TEST(PassBuilder, takes_every_keeper_to_fewer_tokens) {
  for (const Keeper* keeper : keepers()) {
    if (keeper->exact()) continue;
    SCOPED_TRACE(keeper->name);
    const auto method = std::ranges::find(rewrites(), keeper->name, &Rewrite::keeper);
    TrainingSpec spec = tiny_spec(method == rewrites().end() ? kFull : **method);
    spec.keepers = {KeeperUse{*keeper}};
    expect_the_same_programs(std::move(spec));
  }
}

TEST(PassBuilder, takes_every_estimator_to_fewer_tokens) {
  for (const Estimator* estimator : estimators()) {
    SCOPED_TRACE(estimator->name);
    TrainingSpec spec = tiny_spec();
    spec.estimator = estimator, spec.estimator_options = OptionValues(estimator->options);
    if (!estimator->differentiates()) spec.optimizer = &kSgd, spec.optimizer_options = OptionValues(kSgd.options);
    if (estimator == &kNoprop) {
      spec.architecture.denoises = true;
      set_objective(spec, kClassification);
    }
    expect_the_same_programs(std::move(spec));
  }
}

TEST(PassBuilder, takes_every_mixer_norm_and_router_to_fewer_tokens) {
  const auto with = [](std::string_view name, const std::function<void(Block&)>& change) {
    SCOPED_TRACE(name);
    TrainingSpec spec = tiny_spec();
    for (Block& block : spec.architecture.blocks) change(block);
    expect_the_same_programs(std::move(spec));
  };
  for (const Mixer* mixer : mixers())
    if (mixer->mix) with(mixer->name, [&](Block& block) { set_mixer(block, *mixer); });
  for (const NormKind* norm : norms()) with(norm->name, [&](Block& block) { block.before_ffn = new_norm(*norm); });
  for (const Router* router : routers())
    with(router->name, [&](Block& block) {
      block.ffn.routing = {router, 4, router->chosen, router->capacity, router->balance};
    });
}

}  // namespace
}  // namespace thimble
