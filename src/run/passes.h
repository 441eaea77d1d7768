// The passes, updates and evaluations of a training plan.
#pragma once

#include <memory>
#include <vector>

#include "plan/training.h"
#include "run/executor.h"

namespace thimble {

class Passes {
 public:
  // base: the arena. The plan must outlive this.
  Passes(const TrainingPlan& plan, std::byte* base, Scratch* scratch);

  // One pass; first: of a step. Does the update that was left to it.
  Result<void> pass(RunContext& context, bool first);
  // After the last pass of a step: does the update, or leaves it to the next pass where the plan defers.
  Result<void> update(RunContext& context);
  // Does an update that was left: before parameters and states are read, and before an evaluation.
  Result<void> settle(RunContext& context);
  Result<void> evaluate(RunContext& context) { return evaluation_->run_pass(context, true); }

 private:
  struct Kind {
    int64_t period;
    std::unique_ptr<Executor> pass, update;
  };
  const Kind* due(uint64_t step) const;  // nullptr: an ordinary step

  std::unique_ptr<Executor> pass_, update_, deferred_, evaluation_;
  std::vector<Kind> variants_;
  bool pending_ = false;
};

}  // namespace thimble
