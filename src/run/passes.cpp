#include "run/passes.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace thimble {

namespace {

// Offsets of parameters and states in memory, in the order in which the schedules first overwrite them: an ordinary
// step comes first. A save does the update that was left to the next step before it begins.
std::vector<int64_t> overwritten(const TrainingPlan& plan) {
  std::vector<int64_t> order;
  std::set<int64_t> seen;
  const auto add = [&](const Graph& graph, const Schedule& schedule) {
    for (const Step& step : schedule.steps)
      for (const int place : schedule.of(step.out)) {
        if (place >= -1) continue;
        const Layout::Entry& entry = *plan.layout.find(graph.value(persistent_value(place)).name);
        const bool saved = entry.role == Role::parameter || entry.role == Role::state;
        if (saved && entry.tier == Tier::ram && seen.insert(entry.offset).second) order.push_back(entry.offset);
      }
  };
  for (const Schedule* schedule : {&plan.pass, &plan.update, &plan.deferred}) add(plan.train.graph, *schedule);
  for (const PlannedVariant& v : plan.variants) add(v.train.graph, v.pass), add(v.train.graph, v.update);
  for (const Program& program : plan.programs) add(program.graph, program.schedule);
  return order;
}

}  // namespace

Passes::Passes(const TrainingPlan& plan, std::byte* base, Scratch* scratch)
    : plan_(plan),
      base_(base),
      tangents_(plan.layout.find(plan.train.loss + std::string(kTangent))),
      gate_(overwritten(plan)) {
  const Places places(plan.layout, base, scratch, &gate_);
  const auto executor = [&](const Graph& graph, const Schedule& schedule) {
    return schedule.steps.empty() ? nullptr : std::make_unique<Executor>(graph, schedule, plan.layout, places);
  };
  pass_ = executor(plan.train.graph, plan.pass);
  update_ = executor(plan.train.graph, plan.update);
  deferred_ = executor(plan.train.graph, plan.deferred);
  const auto beside = [&](const char* prefix) {
    const Program* const program = plan.find(prefix);
    return program ? executor(program->graph, program->schedule) : nullptr;
  };
  evaluation_ = beside(kEvaluation), perturbation_ = beside(kPerturbation);
  for (const PlannedVariant& v : plan.variants)
    kinds_.push_back({executor(v.train.graph, v.pass), executor(v.train.graph, v.update)});
}

const Passes::Kind* Passes::due(uint64_t step, bool after) const {
  for (size_t i = 0; i < kinds_.size(); ++i)
    if (plan_.variants[i].after == after && plan_.variants[i].is_due(static_cast<int64_t>(step))) return &kinds_[i];
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
  CHECK_OK(run_pass(context, place));
  for (int64_t i = 0; tangents_ && i < plan_.rows; ++i)
    tangent_ += double{reinterpret_cast<const float*>(base_ + tangents_->offset)[i]};
  return {};
}

Result<void> Passes::run_pass(RunContext& context, PassPlace place) {
  context.update_step = context.step;
  if (after_) return after_->pass->run_pass(context, place);
  if (const Kind* const kind = place.first ? due(context.step) : nullptr) {
    CHECK_OK(flush(context));
    write_update(context.step);
    return kind->pass->run_pass(context, place);
  }
  const bool pending = std::exchange(pending_, false);
  if (pending) context.update_step = pending_step_;
  return (pending ? deferred_ : pass_)->run_pass(context, place);
}

// To a place along all directions, from where the parameters are.
Result<void> Passes::move_to(RunContext& context, const std::vector<double>& place) {
  context.update_step = context.step;
  for (size_t k = 0; k < place.size(); ++k)
    write(move_name(static_cast<int>(k)), perturbation_ ? place[k] - place_[k] : place[k]);
  const bool moves = perturbation_ && place != place_;
  place_ = place;
  return moves ? perturbation_->run_pass(context, {}) : Result<void>();
}

// The derivative along direction k; the parameters come back to where they are.
Result<double> Passes::derivative(RunContext& context, size_t k, const LossHere& loss, double& sum) {
  const double epsilon = plan_.estimator_options["epsilon"];
  std::vector<double> place(place_.size());
  double derivative = 0;
  for (const Probe& probe : plan_.estimator->probes(plan_.estimator_options)) {
    place[k] = probe.position * epsilon;
    CHECK_OK(move_to(context, place));
    context.first_row = 0;
    const double found = TRY(loss());
    derivative += probe.weight * found / epsilon;
    sum += found;
  }
  place[k] = 0;
  CHECK_OK(move_to(context, place));
  return derivative;
}

// The same of passes that carry it.
Result<double> Passes::carried(RunContext& context, size_t k, const LossHere& loss, double& sum) {
  std::vector<double> place(place_.size());
  place[k] = 1;
  CHECK_OK(move_to(context, place));
  context.first_row = 0;
  tangent_ = 0;
  sum += TRY(loss());
  return tangent_ * inputs_.scale;
}

// 1, -1 or 0: of a step of plain gradient descent along the derivatives, against them, or none, what has the least
// loss.
Result<double> Passes::safest(RunContext& context, std::span<const double> derivatives, const LossHere& loss) {
  constexpr double kSides[kConservativeProbes] = {0, 1, -1};
  std::vector<double> place(derivatives.size());
  double best = 0, least = 0;
  for (const double side : kSides) {
    for (size_t k = 0; k < place.size(); ++k) place[k] = -side * inputs_.learning_rate * derivatives[k];
    CHECK_OK(move_to(context, place));
    context.first_row = 0;
    const double found = TRY(loss());
    if (side == 0 || found < least) least = found, best = side;
  }
  std::ranges::fill(place, 0.0);
  CHECK_OK(move_to(context, place));
  return best;
}

Result<Estimated> Passes::estimate(RunContext& context, const LossHere& loss) {
  const OptionValues& options = plan_.estimator_options;
  const Directions directions(*plan_.estimator, options, plan_.layers);
  const auto count = static_cast<size_t>(directions.count());
  std::vector<double> derivatives(count);
  place_.assign(count, 0);
  Estimated out;
  double squares = 0;
  for (size_t k = 0; k < count; ++k) {
    const double found = plan_.estimator->tangents ? TRY(carried(context, k, loss, out.loss))
                                                   : TRY(derivative(context, k, loss, out.loss));
    derivatives[k] = found / directions.averaged();
    double numbers = 0;
    for (const TrainedParameter& parameter : plan_.train.parameters)
      if (directions.moves(static_cast<int>(k), parameter.layer))
        numbers += static_cast<double>(parameter.shape.count());
    squares += derivatives[k] * derivatives[k] * numbers;
  }
  out.loss /= static_cast<double>(count * plan_.estimator->sweeps(options));
  out.norm = std::sqrt(squares);
  const bool cautious = plan_.estimator->conservative && plan_.estimator->conservative(options);
  const double side = cautious ? TRY(safest(context, derivatives, loss)) : 1;
  for (size_t k = 0; k < count; ++k) write(derivative_name(static_cast<int>(k)), side * derivatives[k]);
  return out;
}

Result<bool> Passes::measure_curvature(RunContext& context, const LossHere& passes) {
  const Kind* const kind = due(context.step, true);
  if (!kind) return true;
  CHECK_OK(flush(context));
  after_ = kind;
  context.first_row = 0;
  const Result<double> done = passes();
  after_ = nullptr;
  CHECK_OK(done);
  if (!std::isfinite(*reinterpret_cast<const float*>(base_ + plan_.layout.find("update.norm")->offset))) return false;
  context.update_step = context.step;
  if (kind->update) CHECK_OK(kind->update->run_pass(context, {}));
  return true;
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
