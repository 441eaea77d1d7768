// The planner: the fastest plan of a training run within its budget.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "plan/candidates.h"

namespace thimble {

// Plans one run, at one budget after another: what a choice takes is estimated once. The spec (but for its budget and
// runtime) and the machine must stay as they are.
class TrainingPlanner {
 public:
  TrainingPlanner(const TrainingSpec& spec, const Machine& machine) : spec_(spec), machine_(machine) {
    for (const NearMoves& moves : ways()) {
      ways_.push_back({spec, {}, ""});
      ways_.back().spec.moves = moves;
    }
  }

  // Within spec.budget_bytes; over_budget with the smallest budget that would do.
  Result<TrainingPlan> plan();
  // Is told of how many tokens the passes are that are looked at next: those of deep models take seconds.
  void when_looking(std::function<void(int64_t rows)> looking) { looking_ = std::move(looking); }

 private:
  // What was found of passes of one kind, which a budget that is no larger does not change for the better.
  struct Looked {
    int64_t limit = 0;   // bytes
    double seconds = 0;  // within them none of its plans takes less
    double bound = 0;    // of the relaxation
    bool trains_head = false;
    bool won = false;  // the plan was one of its
  };
  // One way to compute: within it every choice gives the same bits.
  struct Numerics {
    TrainingSpec spec;
    Estimates estimates;
    std::string hash;
    Periods periods = {};
    std::map<Pass, Looked> looked = {};
  };
  std::vector<NearMoves> ways() const;
  Result<std::optional<TrainingPlan>> fastest(Numerics& numerics) const;
  Result<std::optional<TrainingPlan>> fastest(Numerics& numerics, Candidates& candidates, double beat_seconds) const;
  Result<TrainingPlan> smallest(Numerics& numerics) const;
  Failure refuse(Numerics& numerics) const;

  const TrainingSpec& spec_;
  const Machine& machine_;
  std::function<void(int64_t)> looking_;
  double seconds_ = 0;          // of all calls of plan()
  int64_t limit_ = 0;           // bytes, without the runtime
  std::vector<Numerics> ways_;  // each nearer to the exact one than those after it, which save more
};

Result<TrainingPlan> plan_training(const TrainingSpec& spec, const Machine& machine);

// A period of the selector in the homes of a plan of the same run, whose places of what outlives a step it shares.
// Where it needs more than this room, it keeps fewer activations; over_budget where none would do.
Result<TrainingPlan> plan_period(const TrainingSpec& spec, const Machine& machine, const PlanHomes& homes, int64_t draw,
                                 const PeriodNeeds& room = {.transient_bytes = INT64_MAX, .scratch_bytes = INT64_MAX});

}  // namespace thimble
