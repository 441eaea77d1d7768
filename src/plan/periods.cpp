// Plans of a selector that draws: every period of the run in the homes of the first.
//
// Of a selector that learns which layers to draw, later periods are not known: there is room for the lowest layers. Of
// layers that are alike the lowest ones wait longest for their backward pass, so that at every node of a pass no other
// choice of as many holds more.
#include <algorithm>
#include <numeric>

#include "disk/scratch.h"
#include "plan/candidates.h"

namespace thimble {
namespace {

// Of a run: planning one takes some hundredths of a second. What comes after them gets the room of these, and keeps
// less where it needs more (plan_period).
constexpr int64_t kPlannedPeriods = 512;

std::vector<int64_t> planned_draws(const TrainingSpec& spec) {
  if (spec.selector->probing) return {0, kLowestLayers};
  const int64_t period = draw_period(spec);
  std::vector<int64_t> draws(static_cast<size_t>(std::min(kPlannedPeriods, (spec.steps + period - 1) / period)));
  std::iota(draws.begin(), draws.end(), int64_t{0});
  return draws;
}

}  // namespace

// Layers that train in turn are alike, so that what outlives a step has the same places in every period; how much a
// step needs beside that differs with where the layers are.
Result<TrainingPlan> Candidates::complete_all(const Choice& choice, Periods& known) const {
  TrainingPlan plan = complete(choice);
  if (draw_period(spec_) == 0) return plan;
  if (!train_.keeper_states.empty())
    return fail(ErrorCode::unsupported,
                "--select {}: a --keep with statistics of activations has others for every layer that trains; take a "
                "keeper without, or --select last_layers",
                spec_.selector->name);
  std::map<std::map<std::string, std::string>, PeriodNeeds> seen;  // by the layers that a period has drawn
  seen[train_.slots] = {plan.transient_bytes, plan.scratch_bytes};
  TrainingSpec spec = spec_;
  for (const int64_t draw : planned_draws(spec_)) {
    spec.draw = draw;
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
  PassBuilder builder(spec);
  CHECK_OK(period.build(builder));
  const auto [found, fresh] = seen.try_emplace(period.train_.slots);
  if (fresh) {
    const TrainingPlan plan = period.complete(choice);
    if (!plan.layout.same_places(first))
      return fail(ErrorCode::unsupported,
                  "--select {}: what outlives a step is not the same in every period; take "
                  "--select last_layers or patterns",
                  spec.selector->name);
    found->second = {plan.transient_bytes, plan.scratch_bytes};
  }
  return found->second;
}

}  // namespace thimble
