// finetune, train and plan: three commands over one recipe.

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/recipe_options.h"
#include "commands/void_flags.h"
#include "files/file.h"
#include "report/sweep.h"
#include "run/interrupt.h"
#include "run/lr_range.h"
#include "run/trainer.h"

namespace thimble {
namespace {

// For the titles of pictures.
std::string model_name(const Recipe& recipe) {
  const std::string& path = recipe.model.empty() ? recipe.architecture : recipe.model;
  return path.empty() ? recipe.size : path.substr(path.rfind('/') + 1);
}

Result<void> train(const Recipe& recipe, bool plan_only, Events& events) {
  auto trainer = TRY(Trainer::prepare(recipe, events));
  events.plan(trainer->plan().ledger);
  if (plan_only) return {};
  watch_interrupts("\nstopping after this step; once more stops at once, without saving\n");
  watch_terminations();
  trainer->stop_when(interrupted);
  return trainer->run();
}

// --lr-range: a run whose rate rises, until its losses do; the curve is drawn beside what the run leaves.
Result<void> range_test(Recipe recipe, const std::string& range, Events& events) {
  CHECK_OK(set_rate_range(range, recipe));
  auto trainer = TRY(Trainer::prepare(recipe, events));
  events.plan(trainer->plan().ledger);
  watch_interrupts("\nstopping after this step; once more stops at once, without saving\n");
  watch_terminations();
  std::vector<RatePoint> points;
  events.on_step([&](const StepEvent& step) { points.push_back({step.learning_rate, step.loss}); });
  trainer->stop_when([&] { return interrupted() || range_is_over(points); });
  const Result<void> ran = trainer->run();
  const bool over = range_is_over(points) || (!ran && ran.error().code == ErrorCode::diverged);
  if (!ran && !over) return ran;
  const RateRange found = read_rate_range(std::move(points));
  const std::string path = recipe.out + "/lr_range.html";
  const std::string model = model_name(recipe);
  CHECK_OK(write_rate_range(path, found, fmt::format("{}, {}: learning-rate range", model, recipe.optimizer)));
  events.event("lr_range", rate_range_json(found), fmt::format("{}; {}", rate_range_text(found), path));
  return {};
}

template <bool kPretrained>
std::function<Result<void>()> add_training(FlagSet& command) {
  auto options = std::make_shared<RecipeOptions>();
  options->add(command, kPretrained);
  auto range = std::make_shared<std::string>();
  command.add("--lr-range", *range, "instead of training: rates from LOW to HIGH, 1e-6:1 say, and a curve of losses");
  return [options, range, &command]() -> Result<void> {
    const Recipe recipe = TRY(options->finish(kPretrained, false));
    Events events(recipe.json);
    for (const char* flag : {"--lr", "--schedule", "--min-lr", "--warmup"})
      if (!range->empty() && is_given(command, flag))
        return fail(ErrorCode::invalid_argument, "{}: it would have no effect: --lr-range says all rates", flag);
    if (!range->empty()) return events.end(range_test(recipe, *range, events));
    return events.end(train(recipe, false, events));
  };
}

struct Sweep {
  bool wanted = false;
  std::string svg;
};

Result<void> sweep(Recipe recipe, const Sweep& options, Events& events) {
  recipe.memory = 0;
  const std::string inputs[] = {recipe.model, recipe.adapter, recipe.data, recipe.eval_data, recipe.tokenizer};
  CHECK_OK(check_output("--svg", options.svg, inputs));
  const auto trainer = TRY(Trainer::prepare(recipe, events));
  const std::vector<SweepPoint> points = TRY(sweep_budgets(trainer->spec(), trainer->machine()));
  fmt::print("{}", recipe.json ? sweep_json(points) : sweep_table(points));
  if (options.svg.empty()) return {};
  const std::string model = model_name(recipe);
  OutputFile file = TRY(OutputFile::create(options.svg));
  CHECK_OK(file.write(std::string_view(
      sweep_svg(points, fmt::format("{}, {}, batch {} x {}: predicted time of a step against the budget", model,
                                    recipe.method, recipe.batch, recipe.context)))));
  return file.commit();
}

// plan --explain: the passes that made the graphs of a step and of an evaluation.
Result<void> explain(const Recipe& recipe, Events& events) {
  verify_every_pass = true;
  const auto trainer = TRY(Trainer::prepare(recipe, events));
  const TrainingPlan& plan = trainer->plan();
  std::vector<std::pair<std::string, const PassLog*>> graphs{{"step", &plan.train.passes}};
  for (const PlannedVariant& variant : plan.variants)
    graphs.emplace_back(fmt::format("step with {}", fmt::join(variant.names, ", ")), &variant.train.passes);
  if (const Program* const evaluation = plan.find(kEvaluation)) graphs.emplace_back("evaluation", &evaluation->passes);
  if (!recipe.json) events.plan(plan.ledger);
  for (const auto& [name, log] : graphs)
    if (recipe.json)
      fmt::print("{{\"graph\":\"{}\",\"passes\":{}}}\n", name, passes_json(log->passes()));
    else
      fmt::print("\npasses of the {}, each verified\n{}", name, passes_table(log->passes()));
  return {};
}

std::function<Result<void>()> add_plan(FlagSet& command) {
  auto options = std::make_shared<RecipeOptions>();
  auto swept = std::make_shared<Sweep>();
  options->add(command, true);
  command.add("--sweep", swept->wanted, "plan at every budget: time a step against memory");
  command.add("--svg", swept->svg, "with --sweep: draw it into this file");
  auto explained = std::make_shared<bool>(false);
  command.add("--explain", *explained, "list the passes that make the graphs, and what each of them changes")
      .excludes("--sweep")
      .excludes("--svg");
  return [options, swept, explained]() -> Result<void> {
    const Recipe recipe = TRY(options->finish(true, true));
    Events events(recipe.json);
    if (*explained) return events.end(explain(recipe, events));
    return events.end(swept->wanted || !swept->svg.empty() ? sweep(recipe, *swept, events)
                                                           : train(recipe, true, events));
  };
}

}  // namespace

const Command kFinetune = {"finetune", "adapt a pretrained model to your data", add_training<true>, true};
const Command kTrain = {"train", "train a model from scratch", add_training<false>, true};
const Command kPlan = {"plan", "show where every byte of a run would go, and stop", add_plan, true};

}  // namespace thimble
