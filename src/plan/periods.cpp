// Plans of a selector that draws: every period of the run in the homes of the first.
#include <algorithm>

#include "disk/scratch.h"
#include "plan/candidates.h"

namespace thimble {
namespace {

// Of a run: planning one takes some hundredths of a second. What comes after them gets the room of these, and keeps
// less where it needs more (plan_period).
constexpr int64_t kPlannedPeriods = 512;

}  // namespace

// Layers that train in turn are alike, so that what outlives a step has the same places in every period; how much a
// step needs beside that differs with where the layers are.
Result<TrainingPlan> Candidates::complete_all(const Choice& choice, Periods& known) const {
  TrainingPlan plan = complete(choice);
  const int64_t period = draw_period(spec_);
  if (period == 0) return plan;
  if (!train_.keeper_states.empty())
    return fail(ErrorCode::unsupported,
                "--select {}: a --keep with statistics of activations has others for every layer that trains; take a "
                "keeper without, or --select last_layers",
                spec_.selector->name);
  std::map<std::map<std::string, std::string>, PeriodNeeds> seen;  // by the layers that a period has drawn
  seen[train_.slots] = {plan.transient_bytes, plan.scratch_bytes};
  TrainingSpec spec = spec_;
  const int64_t periods = std::min(kPlannedPeriods, (spec_.steps + period - 1) / period);
  for (spec.draw = 0; spec.draw < periods; ++spec.draw) {
    const auto [found, fresh] = known.try_emplace({shape_, choice, spec.draw});
    PeriodNeeds& needs = found->second;
    if (fresh) needs = TRY(needs_of(spec, choice, plan.layout, seen));
    plan.transient_bytes = std::max(plan.transient_bytes, needs.transient_bytes);
    plan.scratch_bytes = std::max(plan.scratch_bytes, needs.scratch_bytes);
  }
  if (plan.scratch_bytes > 0) plan.scratch_memory = Scratch::memory_bytes(plan.scratch_bytes);
  plan.arena_bytes = plan.layout.bytes() + plan.transient_bytes;
  return plan;
}

Result<PeriodNeeds> Candidates::needs_of(const TrainingSpec& spec, const Choice& choice, const Layout& first,
                                         std::map<std::map<std::string, std::string>, PeriodNeeds>& seen) const {
  Estimates estimates;
  Candidates period(spec, machine_, shape_, estimates);
  CHECK_OK(period.build());
  const auto [found, fresh] = seen.try_emplace(period.train_.slots);
  if (fresh) {
    const TrainingPlan plan = period.complete(choice);
    if (!plan.layout.same_places(first))
      return fail(ErrorCode::unsupported, "--select {}: what outlives a step is not the same in every period",
                  spec.selector->name);
    found->second = {plan.transient_bytes, plan.scratch_bytes};
  }
  return found->second;
}

}  // namespace thimble
