// Choosing homes: what lives in memory, what waits on disk, what is recomputed, and how many rows go at once, to be
// fast within the budget. Every choice is exact: the same bits come out. Near moves, where they are allowed, are
// another way to compute, planned beside the exact one.
#include "plan/planner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "ops/rows.h"
#include "plan/search.h"

namespace thimble {
namespace {

// What the process occupies beside the arena was measured with another plan than the leanest, which has more steps and
// transfers: bytes for each byte of the executors', schedules before they are bound and holes of the heap included
// (measured: 2.7 to 3.1).
constexpr double kPlanHeap = 3.2;

// A plan must take less than this part of another's time to be worth giving up exactness, or looking at passes again.
constexpr double kGain = 0.98;

// A method that trains less, or a lower rank where that is the user's to say.
std::string less_trained(const TrainingSpec& spec) {
  if (spec.trains_weights()) return fmt::format(", train less (--method {})", lightest_method());
  for (const RewriteSpec& rewrite : spec.rewrites)
    if (!rewrite.given && rewrite.options.has("rank") && rewrite.options["rank"] > 1)
      return fmt::format(", train less (a --rank below {})", rewrite.options["rank"]);
  return "";
}

// What would need less, of what this run can do.
std::string advice(const TrainingSpec& spec) {
  std::string out = fmt::format("Lower --context ({})", spec.context);
  if (spec.batch > 1) out += fmt::format(" or --batch ({})", spec.batch);
  if (spec.from_scratch)
    out += ", train a smaller --size";
  else
    out += less_trained(spec);
  if (!spec.disk && !spec.measures_gradients) out += ", leave out --scratch none";  // measuring does without
  return out;
}

// Tokens a pass, most first: whole windows and whole granules, so that sums over tokens are cut at the same places.
// Where blocks read some of the rows, sums over those are cut at the same places in passes of one size alone.
std::vector<int64_t> pass_sizes(const TrainingSpec& spec) {
  const int64_t whole = spec.batch * spec.context, unit = std::lcm(kGranule, spec.context);
  std::vector<int64_t> out = {whole};
  if (spec.optimizer->accumulator) return out;
  for (int64_t parts = 2; parts <= whole / unit; ++parts)
    if (whole % parts == 0 && whole / parts % unit == 0) out.push_back(whole / parts);
  if (std::ranges::any_of(spec.rewrites, [](const RewriteSpec& r) { return r.rewrite->training_only; }))
    return {out.back()};
  return out;
}

// In every home, with all that can be on disk, and no more memory given to transfers than one needs; those that seem to
// need least first.
std::vector<Choice> leanest(Candidates& candidates, bool disk) {
  std::vector<Choice> out;
  for (size_t home = 0; home < kHomes.size(); ++home)
    if (disk || !kHomes[home].on_disk())
      out.push_back({.blocks = BlockHomes::all(home), .on_disk = candidates.list_size(), .eagerness = kLeanest});
  const auto bytes = [&](const Choice& choice) { return candidates.estimate(choice, 0).bytes; };
  std::sort(out.begin(), out.end(), [&](const Choice& a, const Choice& b) { return bytes(a) < bytes(b); });
  return out;
}

}  // namespace

std::vector<NearMoves> TrainingPlanner::ways() const {
  if (spec_.near == Near::always) return {spec_.moves};
  if (spec_.near == Near::never) return {{}};
  std::vector<NearMoves> ways = {{}};
  for (const NearMove& move : near_move_table()) {
    if (!move.legal(spec_)) continue;
    ways.push_back(ways.back());
    ways.back().*move.taken = true;
  }
  return ways;
}

Result<TrainingPlan> TrainingPlanner::plan() {
  const auto begin = std::chrono::steady_clock::now();
  for (Numerics& way : ways_) way.spec.budget_bytes = spec_.budget_bytes, way.spec.runtime_bytes = spec_.runtime_bytes;
  limit_ = spec_.budget_bytes > 0 ? spec_.budget_bytes - spec_.runtime_bytes : std::numeric_limits<int64_t>::max();
  std::optional<TrainingPlan> best;
  const Numerics* chosen = nullptr;
  for (Numerics& way : ways_) {
    auto found = TRY(fastest(way));
    if (found && (!best || found->seconds < kGain * best->seconds)) best = std::move(found), chosen = &way;
  }
  if (!best) return refuse(ways_.back());
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  best->planning_seconds = seconds_;
  describe(chosen->spec, machine_, *best);
  return std::move(*best);
}

// A planner is asked again as it turns out what the process takes: passes that were no faster within as many bytes
// are not looked at again.
Result<std::optional<TrainingPlan>> TrainingPlanner::fastest(Numerics& numerics) const {
  std::optional<TrainingPlan> best;
  double least = HUGE_VAL;
  bool whole_passes = false;
  PassBuilder builder(numerics.spec);
  for (int64_t rows : pass_sizes(numerics.spec))
    for (bool keep_logits : {false, true}) {
      if (whole_passes) break;
      Looked& before = numerics.looked[{rows, keep_logits}];
      if (best && limit_ <= before.limit && !before.won && before.seconds >= kGain * best->seconds) {
        least = std::min(least, before.bound);
        if (!before.trains_head) break;
        continue;
      }
      Candidates candidates(numerics.spec, machine_, {rows, keep_logits}, numerics.estimates);
      if (looking_) looking_(rows);
      CHECK_OK(candidates.build(builder));
      const double bound = candidates.bound(spec_.budget_bytes > 0 ? limit_ : 0);
      least = std::min(least, bound);
      before = {limit_, best ? best->seconds : HUGE_VAL, bound, candidates.trains_head(), false};
      if (auto found = TRY(fastest(numerics, candidates, before.seconds)))
        before.seconds = found->seconds, best = std::move(found);
      if (numerics.hash.empty()) numerics.hash = candidates.numerics_hash();
      assert(numerics.hash == candidates.numerics_hash());
      whole_passes = candidates.whole_passes();
      if (!candidates.trains_head()) break;
    }
  if (!best) return best;
  numerics.looked[{best->rows, best->keep_logits}].won = true;
  best->numerics_hash = numerics.hash;
  best->least_seconds = least;
  return best;
}

// Choices are weighed by the most bytes that are alive at once; only what is chosen is placed, and where the placement
// needs more than that, the difference is set aside from choices of that eagerness and the choice is made again.
Result<std::optional<TrainingPlan>> TrainingPlanner::fastest(Numerics& numerics, Candidates& candidates,
                                                             double beat_seconds) const {
  const bool disk = numerics.spec.disk;
  Limits limits;
  limits.fill(limit_);
  bool missed = false;
  while (const auto found = fastest_choice(candidates, limits, disk, beat_seconds)) {
    TrainingPlan plan = TRY(candidates.complete_all(found->choice, numerics.periods));
    if (plan.bytes() <= limit_) return std::optional(std::move(plan));
    int64_t& limit = limits[found->choice.eagerness];
    // A series of small differences would not end.
    limit -= std::max(plan.bytes() - limit_, (limit_ - limit) / 8);
    missed = true;
  }
  if (!missed || beat_seconds < HUGE_VAL) return std::optional<TrainingPlan>();
  for (const Choice& choice : leanest(candidates, disk))
    if (TrainingPlan plan = TRY(candidates.complete_all(choice, numerics.periods)); plan.bytes() <= limit_)
      return std::optional(std::move(plan));
  return std::optional<TrainingPlan>();
}

// The plan that needs least, whatever the budget.
Result<TrainingPlan> TrainingPlanner::smallest(Numerics& numerics) const {
  std::optional<TrainingPlan> least;
  bool whole_passes = false;
  PassBuilder builder(numerics.spec);
  for (int64_t rows : pass_sizes(numerics.spec)) {
    Candidates candidates(numerics.spec, machine_, {.rows = rows}, numerics.estimates);
    if (whole_passes) break;
    CHECK_OK(candidates.build(builder));
    whole_passes = candidates.whole_passes();
    for (const Choice& choice : leanest(candidates, numerics.spec.disk)) {
      if (least && candidates.estimate(choice, 0).bytes >= least->bytes()) continue;
      TrainingPlan plan = TRY(candidates.complete_all(choice, numerics.periods));
      if (!least || plan.bytes() < least->bytes()) least = std::move(plan);
    }
  }
  return std::move(*least);
}

Failure TrainingPlanner::refuse(Numerics& numerics) const {
  auto leanest = smallest(numerics);
  if (!leanest) return Failure(std::move(leanest.error()));
  leanest->moves = numerics.spec.moves;
  describe(numerics.spec, machine_, *leanest);
  int64_t least = leanest->bytes() + spec_.runtime_bytes;
  if (spec_.heap) {
    const int64_t more = std::max<int64_t>(0, spec_.heap(*leanest) - spec_.runtime_heap);
    least += kRuntimeVaries + static_cast<int64_t>(kPlanHeap * static_cast<double>(more));
  }
  return does_not_fit(leanest->ledger, least, advice(spec_));
}

Result<TrainingPlan> plan_training(const TrainingSpec& spec, const Machine& machine) {
  return TrainingPlanner(spec, machine).plan();
}

Result<TrainingPlan> plan_period(const TrainingSpec& spec, const Machine& machine, const PlanHomes& homes, int64_t draw,
                                 const PeriodNeeds& room) {
  TrainingSpec drawn = spec;
  drawn.moves = homes.moves, drawn.draw = draw;
  Estimates estimates;
  Candidates candidates(drawn, machine, {homes.rows, homes.keep_logits}, estimates);
  PassBuilder builder(drawn);
  CHECK_OK(candidates.build(builder));
  Choice choice = homes.choice;
  TrainingPlan plan = candidates.complete(choice);
  for (size_t home = 0; home < kHomes.size(); ++home) {
    if (kHomes[home].on_disk() || kHomes[home].recompute == Home::Recompute::nothing) continue;
    if (PeriodNeeds{plan.transient_bytes, plan.scratch_bytes}.fit(room)) return plan;
    choice.blocks = BlockHomes::all(home);
    plan = candidates.complete(choice);
  }
  if (PeriodNeeds{plan.transient_bytes, plan.scratch_bytes}.fit(room)) return plan;
  return fail(ErrorCode::over_budget,
              "the layers of period {} need {} of working memory, planned were {}; give a larger --memory and --resume",
              draw, megabytes(plan.transient_bytes), megabytes(room.transient_bytes));
}

}  // namespace thimble
