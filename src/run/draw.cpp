// Trainer: the next period of a selector that draws: what it learns of the layers before, and the plan with those that
// it draws.
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "files/json.h"
#include "plan/planner.h"
#include "plan/selection.h"
#include "run/resume.h"
#include "run/trainer.h"
#include "run/weights.h"

namespace thimble {

Result<void> Trainer::draw() {
  const int64_t period = draw_period(spec_), draw = period > 0 ? done_ / period : 0;
  if (draw == spec_.draw) return {};
  CHECK_OK(settle_save());
  CHECK_OK(flush());
  if (spec_.selector->probing && draw > learned_) CHECK_OK(learn_importance(draw));
  spec_.draw = draw;
  return plan_again(spec_);
}

Result<void> Trainer::plan_again(const TrainingSpec& spec) {
  passes_.reset();
  TrainingPlan before = std::exchange(plan_, TrainingPlan());
  const PlanHomes homes = before;
  before.train = {}, before.pass = before.update = before.deferred = {}, before.programs.clear(),
  before.variants.clear();
  plan_ = TRY(plan_period(spec, machine_, homes, spec.draw, {before.transient_bytes, before.scratch_bytes}));
  if (!plan_.layout.same_places(before.layout))
    return fail(ErrorCode::unsupported,
                "step {}: the layers of the next period have other places than those of the first: this is a fault of "
                "the planner; take --select last_layers",
                done_ + 1);
  plan_.transient_bytes = before.transient_bytes, plan_.arena_bytes = before.arena_bytes;
  plan_.scratch_bytes = before.scratch_bytes, plan_.numerics_hash = before.numerics_hash;
  static_cast<PlanHomes&>(plan_) = homes, plan_.ledger = std::move(before.ledger);
  passes_ = std::make_unique<Passes>(plan_, arena_->data(), scratch_.get());
  return {};
}

Result<void> Trainer::begin_slots() {
  CHECK_OK(flush());
  std::set<std::string_view> states;
  for (const TrainedParameter& parameter : plan_.train.parameters)
    if (plan_.train.slots.contains(parameter.name))
      for (const auto& [name, state] : parameter.states) states.insert(name);
  Loaded others;
  for (const auto& [name, entry] : plan_.layout.entries())
    if (!states.contains(name)) others.insert(name);
  Values all = values();
  return initialise(all, others, 0);
}

// The tokens of the step to come are looked at before they are trained on. Every probe is a plan of its own in the
// homes of the run: how much a layer adds is a constant of its graph.
Result<void> Trainer::learn_importance(int64_t period) {
  const Probing& probing = *spec_.selector->probing;
  spec_.importance.resize(static_cast<size_t>(spec_.architecture.layers()));
  const auto suppressed = probing.suppressed({.parameters = {},
                                              .layers = spec_.architecture.layers(),
                                              .options = spec_.selector_options,
                                              .seed = spec_.seed,
                                              .draw = period,
                                              .importance = spec_.importance});
  packer_->begin_step();
  const Packer::State begin = packer_->state();
  std::vector<double> losses;
  for (const std::vector<bool>& layers : suppressed) {
    CHECK_OK(plan_again(suppressed_spec(spec_, layers)));
    losses.push_back(TRY(probed_loss(begin)));
  }
  CHECK_OK(packer_->restore(begin));
  probing.learn(spec_.selector_options, suppressed, losses, spec_.importance);
  learned_ = period;
  events_.log(fmt::format("{{\"event\":\"importance\",\"step\":{},\"losses\":{},\"layers\":{}}}", done_ + 1,
                          nlohmann::json(losses).dump(), nlohmann::json(spec_.importance).dump()));
  return {};
}

Result<double> Trainer::probed_loss(const Packer::State& from) {
  CHECK_OK(packer_->restore(from));
  double sum = 0;
  int64_t terms = 0;
  for (int64_t i = 0; i < recipe_.accumulate; ++i) {
    CHECK_OK(packer_->next(rows_));
    if (rows_.windows == 0) break;
    terms += terms_in(rows_);
    for (int64_t first = 0; first < recipe_.batch * recipe_.context; first += plan_.rows) {
      CHECK_OK(evaluate_rows(rows_, first, references_));
      sum += read_losses("eval.", rows_, first);
    }
  }
  return sum / static_cast<double>(std::max<int64_t>(1, terms));
}

std::string Trainer::importance_text() const {
  if (learned_ == 0) return "";
  return nlohmann::json{{"period", learned_}, {"layers", spec_.importance}}.dump();
}

// After the plan, which is that of the first period, when nothing was learnt.
Result<void> Trainer::restore_importance(const SafetensorsFile& checkpoint) {
  const std::string text = metadata_text(checkpoint, "importance");
  const int64_t period = draw_period(spec_);
  const bool learnt = spec_.selector->probing && done_ > period;
  if (!learnt) return {};
  const auto corrupt = [&] {
    return fail(ErrorCode::corrupt,
                "{}: the checkpoint of step {} does not say how important --select {} has found the {} layers; begin a "
                "new run",
                checkpoint.path(), done_, spec_.selector->name, spec_.architecture.layers());
  };
  if (text.empty()) return corrupt();
  const auto json = TRY(parse_ordered_json(text, checkpoint.path()));
  const auto layers = json.find("layers"), learned = json.find("period");
  if (layers == json.end() || !layers->is_array() || learned == json.end() || !learned->is_number_integer())
    return corrupt();
  std::vector<double> importance;
  for (const auto& one : *layers)
    if (one.is_number() && std::isfinite(one.get<double>())) importance.push_back(one.get<double>());
  if (std::ssize(importance) != spec_.architecture.layers() || importance.size() != layers->size()) return corrupt();
  learned_ = learned->get<int64_t>();
  if (learned_ != (done_ - 1) / period) return corrupt();
  spec_.importance = std::move(importance);
  return {};
}

}  // namespace thimble
