#include "run/passes.h"

#include <algorithm>
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

// By moves along all directions.
Result<void> Passes::perturb(RunContext& context, std::span<const double> moves) {
  if (std::ranges::all_of(moves, [](double move) { return move == 0; })) return {};
  context.update_step = context.step;
  for (size_t k = 0; k < moves.size(); ++k) write(move_name(static_cast<int>(k)), moves[k]);
  return perturbation_->run_pass(context, {});
}

// The derivative along direction k; the parameters come back to where they are.
Result<double> Passes::derivative(RunContext& context, size_t k, std::vector<double>& moves, const LossHere& loss,
                                  double& sum) {
  const double epsilon = plan_.estimator_options["epsilon"];
  double at = 0, derivative = 0;
  const auto move_to = [&](double position) {
    std::ranges::fill(moves, 0.0);
    moves[k] = (position - std::exchange(at, position)) * epsilon;
    return perturb(context, moves);
  };
  for (const Probe& probe : plan_.estimator->probes(plan_.estimator_options)) {
    CHECK_OK(move_to(probe.position));
    context.first_row = 0;
    const double found = TRY(loss());
    derivative += probe.weight * found / epsilon;
    sum += found;
  }
  CHECK_OK(move_to(0));
  return derivative;
}

// 1, -1 or 0: of a step of plain gradient descent along the derivatives, against them, or none, what has the least
// loss.
Result<double> Passes::safest(RunContext& context, std::span<const double> derivatives, const LossHere& loss) {
  constexpr double kSides[kConservativeProbes] = {0, 1, -1};
  std::vector<double> moves(derivatives.size());
  double at = 0, best = 0, least = 0;
  const auto move_to = [&](double side) {
    const double by = at - side;  // down the gradient
    for (size_t k = 0; k < moves.size(); ++k) moves[k] = by * inputs_.learning_rate * derivatives[k];
    at = side;
    return perturb(context, moves);
  };
  for (const double side : kSides) {
    CHECK_OK(move_to(side));
    context.first_row = 0;
    const double found = TRY(loss());
    if (side == 0 || found < least) least = found, best = side;
  }
  CHECK_OK(move_to(0));
  return best;
}

Result<Estimated> Passes::estimate(RunContext& context, const LossHere& loss) {
  const OptionValues& options = plan_.estimator_options;
  const Directions directions(*plan_.estimator, options, plan_.layers);
  const auto count = static_cast<size_t>(directions.count());
  std::vector<double> derivatives(count), moves(count);
  Estimated out;
  double squares = 0;
  for (size_t k = 0; k < count; ++k) {
    derivatives[k] = TRY(derivative(context, k, moves, loss, out.loss)) / directions.averaged();
    double numbers = 0;
    for (const TrainedParameter& parameter : plan_.train.parameters)
      if (directions.moves(static_cast<int>(k), parameter.layer))
        numbers += static_cast<double>(parameter.shape.count());
    squares += derivatives[k] * derivatives[k] * numbers;
  }
  out.loss /= static_cast<double>(count * plan_.estimator->probes(options).size());
  out.norm = std::sqrt(squares);
  const bool cautious = plan_.estimator->conservative && plan_.estimator->conservative(options);
  const double side = cautious ? TRY(safest(context, derivatives, loss)) : 1;
  for (size_t k = 0; k < count; ++k) write(derivative_name(static_cast<int>(k)), side * derivatives[k]);
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
