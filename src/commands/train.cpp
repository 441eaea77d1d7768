// finetune, train and plan: three commands over one recipe.
#include "commands/command.h"
#include "commands/recipe_options.h"
#include "run/trainer.h"

namespace thimble {
namespace {

Result<void> train(const Recipe& recipe, bool plan_only) {
  Events events(recipe.json);
  auto trainer = TRY(Trainer::prepare(recipe, events));
  events.plan(trainer->plan().ledger);
  if (plan_only) return {};
  return trainer->run();
}

template <bool kPretrained, bool kPlanOnly>
std::function<Result<void>()> add(CLI::App& app) {
  auto options = std::make_shared<RecipeOptions>();
  options->add(app, kPretrained);
  return [options]() -> Result<void> {
    const Recipe recipe = TRY(options->finish(kPretrained, kPlanOnly));
    return train(recipe, kPlanOnly);
  };
}

}  // namespace

const Command kFinetune = {"finetune", "adapt a pretrained model to your data", add<true, false>};
const Command kTrain = {"train", "train a model from scratch", add<false, false>};
const Command kPlan = {"plan", "show where every byte of a run would go, and stop", add<true, true>};

}  // namespace thimble
