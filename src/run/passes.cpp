#include "run/passes.h"

#include <cmath>
#include <utility>

namespace thimble {

Passes::Passes(const TrainingPlan& plan, std::byte* base, Scratch* scratch) : plan_(plan), base_(base) {
  const Places places{base, plan.layout.bytes(), scratch, plan.layout.disk_bytes()};
  const auto executor = [&](const Graph& graph, const Schedule& schedule) {
    return schedule.steps.empty() ? nullptr : std::make_unique<Executor>(graph, schedule, plan.layout, places);
  };
  pass_ = executor(plan.train.graph, plan.pass);
  update_ = executor(plan.train.graph, plan.update);
  deferred_ = executor(plan.train.graph, plan.deferred);
  for (const PlannedProgram& program : plan.programs)
    (program.kind == PlannedProgram::Kind::evaluate ? evaluation_ : perturbation_) =
        executor(program.graph, program.schedule);
  for (const PlannedVariant& v : plan.variants)
    kinds_.push_back({executor(v.train.graph, v.pass), executor(v.train.graph, v.update)});
}

const Passes::Kind* Passes::due(uint64_t step) const {
  for (size_t i = 0; i < kinds_.size(); ++i)
    if (plan_.variants[i].is_due(static_cast<int64_t>(step))) return &kinds_[i];
  return nullptr;
}

void Passes::write(const std::string& name, double value) {
  if (const Layout::Entry* const entry = plan_.layout.find(name))
    *reinterpret_cast<float*>(base_ + entry->offset) = static_cast<float>(value);
}

void Passes::write_update(uint64_t step) {
  write(kUpdateRate, inputs_.learning_rate);
  write(kUpdateStep, static_cast<double>(step + 1));
}

// The inputs of an update that is still to be done stay as they are until it is.
void Passes::begin_step(const RunContext& context, const StepInputs& inputs) {
  inputs_ = inputs;
  write(kLossScale, inputs.scale);
  write(kPassRate, inputs.learning_rate);
  write(kPassStep, static_cast<double>(context.step + 1));
  if (!pending_) write_update(context.step);
}

Result<void> Passes::pass(RunContext& context, PassPlace place) {
  context.update_step = context.step;
  if (const Kind* const kind = place.first ? due(context.step) : nullptr) {
    CHECK_OK(flush(context));
    write_update(context.step);
    return kind->pass->run_pass(context, place);
  }
  const bool pending = std::exchange(pending_, false);
  if (pending) context.update_step = pending_step_;
  return (pending ? deferred_ : pass_)->run_pass(context, place);
}

// Along one direction; the parameters rest along the others.
Result<void> Passes::perturb(RunContext& context, int direction, double move) {
  if (move == 0) return {};
  context.update_step = context.step;
  const auto directions = static_cast<int>(plan_.estimator_options["directions"]);
  for (int k = 0; k < directions; ++k) write(move_name(k), k == direction ? move : 0);
  return perturbation_->run_pass(context, {});
}

Result<Estimated> Passes::estimate(RunContext& context, const std::function<Result<double>()>& loss) {
  const std::vector<Probe> probes = plan_.estimator->probes(plan_.estimator_options);
  const double epsilon = plan_.estimator_options["epsilon"];
  const auto directions = static_cast<int>(plan_.estimator_options["directions"]);
  Estimated out;
  double squares = 0;
  for (int k = 0; k < directions; ++k) {
    double at = 0, derivative = 0;
    for (const Probe& probe : probes) {
      CHECK_OK(perturb(context, k, (probe.position - std::exchange(at, probe.position)) * epsilon));
      context.first_row = 0;
      const double found = TRY(loss());
      derivative += probe.weight * found / (epsilon * directions);
      out.loss += found / static_cast<double>(probes.size() * static_cast<size_t>(directions));
    }
    CHECK_OK(perturb(context, k, -at * epsilon));
    write(derivative_name(k), derivative);
    squares += derivative * derivative;
  }
  double count = 0;
  for (const TrainedParameter& parameter : plan_.train.parameters)
    count += static_cast<double>(parameter.shape.count());
  out.norm = std::sqrt(squares * count);
  return out;
}

Result<void> Passes::end_step(RunContext& context) {
  context.update_step = context.step;
  write_update(context.step);
  if (const Kind* const kind = due(context.step))
    return kind->update ? kind->update->run_pass(context, {}) : Result<void>();
  pending_ = deferred_ != nullptr, pending_step_ = context.step;
  return update_ && !pending_ ? update_->run_pass(context, {}) : Result<void>();
}

Result<void> Passes::flush(RunContext& context) {
  if (!std::exchange(pending_, false)) return {};
  context.update_step = pending_step_;
  return update_->run_pass(context, {});
}

}  // namespace thimble
