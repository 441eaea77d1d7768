// One step of a training plan: its passes, its update, and what they are told before; and evaluations between steps.
// The order in which inputs are written is here and nowhere else:
//
//   begin_step   scale, and what passes read of the step's number and rate
//   pass         as many as the plan says; the first may hold the update of the step before, the last makes what the
//                update reads
//   end_step     the number and rate that the update reads; the update, or it is left to the next step's first pass
//   measure_curvature  after some steps of some optimizers: passes over the same tokens, whose labels are drawn
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "plan/training.h"
#include "run/executor.h"

namespace thimble {

struct StepInputs {
  double learning_rate = 0;
  double scale = 1;  // what the sum of losses is multiplied with
};

struct Estimated {
  double loss = 0;  // the mean over all probes
  double norm = 0;  // of the gradient, whose direction is taken to be as long as it is expected to be
};

class Passes {
 public:
  // base: the arena. The plan must outlive this.
  Passes(const TrainingPlan& plan, std::byte* base, Scratch* scratch);

  // context.step counts the steps done; first_row the rows of this step that came before.
  void begin_step(const RunContext& context, const StepInputs& inputs);
  Result<void> pass(RunContext& context, PassPlace place);
  Result<void> end_step(RunContext& context);
  // Does an update that was left: before parameters and states are read, and before an evaluation.
  Result<void> flush(RunContext& context);
  Result<void> evaluate(RunContext& context) { return evaluation_->run_pass(context, {}); }
  // Parameters and states in memory, in the order in which steps overwrite them, which wait for a save to read them.
  SaveGate& gate() { return gate_; }

  // In place of passes, where an estimator does not differentiate: moves the parameters to every probe of every
  // direction, asks there for the loss a target of all passes of the step, moves them back, and tells the update what
  // was found. Where the passes carry the derivative, asks once for every direction.
  using LossHere = std::function<Result<double>()>;
  Result<Estimated> estimate(RunContext& context, const LossHere& loss);
  // After steps at which the optimizer measures curvature: asks for all passes of the step once more, with drawn
  // labels, and lets it take their gradient in. Whether that was finite; else it has entered no state.
  Result<bool> measure_curvature(RunContext& context, const LossHere& passes);

 private:
  struct Kind {
    std::unique_ptr<Executor> pass, update;
  };
  const Kind* due(uint64_t step, bool after = false) const;  // nullptr: an ordinary step; nothing comes after it
  Result<void> move_to(RunContext& context, const std::vector<double>& place);
  Result<void> run_pass(RunContext& context, PassPlace place);
  Result<double> derivative(RunContext& context, size_t k, const LossHere& loss, double& sum);
  Result<double> carried(RunContext& context, size_t k, const LossHere& loss, double& sum);
  Result<double> safest(RunContext& context, std::span<const double> derivatives, const LossHere& loss);
  void write(const std::string& name, double value);
  void write_update(uint64_t step);

  const TrainingPlan& plan_;
  std::byte* base_;
  const Layout::Entry* tangents_;  // of the losses of a pass; nullptr: it carries none
  SaveGate gate_;
  std::unique_ptr<Executor> pass_, update_, deferred_, evaluation_, perturbation_;
  std::vector<Kind> kinds_;      // as plan.variants
  const Kind* after_ = nullptr;  // while the curvature is measured
  StepInputs inputs_;
  std::vector<double> place_;  // of the parameters, by direction
  double tangent_ = 0;         // the derivatives of the losses, summed over the passes that carry them
  bool pending_ = false;
  uint64_t pending_step_ = 0;
};

}  // namespace thimble
