#include "run/passes.h"

#include <utility>

namespace thimble {

Passes::Passes(const TrainingPlan& plan, std::byte* base, Scratch* scratch) {
  const Places places{base, plan.layout.bytes(), scratch, plan.layout.disk_bytes()};
  const auto executor = [&](const Graph& graph, const Schedule& schedule) {
    return schedule.steps.empty() ? nullptr : std::make_unique<Executor>(graph, schedule, plan.layout, places);
  };
  pass_ = executor(plan.train.graph, plan.pass);
  update_ = executor(plan.train.graph, plan.update);
  deferred_ = executor(plan.train.graph, plan.deferred);
  evaluation_ = executor(plan.evaluate, plan.evaluation);
}

Result<void> Passes::pass(RunContext& context, bool first) {
  return (std::exchange(pending_, false) ? deferred_ : pass_)->run_pass(context, first);
}

Result<void> Passes::update(RunContext& context) {
  pending_ = deferred_ != nullptr;
  return update_ && !pending_ ? update_->run_pass(context, true) : Result<void>();
}

Result<void> Passes::settle(RunContext& context) {
  return std::exchange(pending_, false) ? update_->run_pass(context, true) : Result<void>();
}

}  // namespace thimble
