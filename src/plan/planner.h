// The planner: the fastest plan of a training run within its budget.
#pragma once

#include <optional>

#include "plan/candidates.h"

namespace thimble {

// Plans one run, at one budget after another: what a choice takes is estimated once. The spec (but for its budget and
// runtime) and the machine must stay as they are.
class TrainingPlanner {
 public:
  TrainingPlanner(const TrainingSpec& spec, const Machine& machine) : spec_(spec), machine_(machine) {}

  // Within spec.budget_bytes; over_budget with the smallest budget that would do.
  Result<TrainingPlan> plan();

 private:
  std::optional<TrainingPlan> fastest(Candidates& candidates, double beat_seconds) const;
  Result<TrainingPlan> smallest();
  Failure refuse();

  const TrainingSpec& spec_;
  const Machine& machine_;
  int64_t limit_ = 0;  // bytes, without the runtime
  Estimates estimates_;
  std::string numerics_hash_;
};

Result<TrainingPlan> plan_training(const TrainingSpec& spec, const Machine& machine);

}  // namespace thimble
