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
  for (const PlannedVariant& v : plan.variants)
    variants_.push_back({v.period, executor(v.train.graph, v.pass), executor(v.train.graph, v.update)});
}

const Passes::Kind* Passes::due(uint64_t step) const {
  for (const Kind& kind : variants_)
    if (step % static_cast<uint64_t>(kind.period) == 0) return &kind;
  return nullptr;
}

Result<void> Passes::pass(RunContext& context, bool first) {
  if (const Kind* const kind = first ? due(context.step) : nullptr) {
    CHECK_OK(settle(context));
    return kind->pass->run_pass(context, true);
  }
  return (std::exchange(pending_, false) ? deferred_ : pass_)->run_pass(context, first);
}

Result<void> Passes::update(RunContext& context) {
  if (const Kind* const kind = due(context.step))
    return kind->update ? kind->update->run_pass(context, true) : Result<void>();
  pending_ = deferred_ != nullptr;
  return update_ && !pending_ ? update_->run_pass(context, true) : Result<void>();
}

Result<void> Passes::settle(RunContext& context) {
  return std::exchange(pending_, false) ? update_->run_pass(context, true) : Result<void>();
}

}  // namespace thimble
