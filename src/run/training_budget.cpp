// Planning a training run within the budget of its process.
#include <algorithm>

#include "core/count.h"
#include "models/hf_writer.h"
#include "plan/planner.h"
#include "run/setup.h"
#include "run/trainer.h"
#include "text/save.h"

namespace thimble {

// Names of what is saved, and a checkpoint's header. Measured: 10 MB for the 28,000 tensors of a model of 1000 layers
// (docs/memory.md), by which the peak was above a plan without them.
int64_t Trainer::heap_of_a_save() const {
  constexpr int64_t kBytesPerTensor = 512;
  const auto saved = std::ranges::count_if(plan_.layout.entries(),
                                           [&](const auto& named) { return in_checkpoint(named.first, named.second); });
  return kBytesPerTensor * saved;
}

Result<int64_t> Trainer::heap_of_a_period() const {
  if (draw_period(spec_) == 0) return 0;
  Result<void> planned;
  const int64_t taken = heap_taken_by([&] {
    auto plan = plan_period(spec_, machine_, plan_, 1, {plan_.transient_bytes, plan_.scratch_bytes});
    if (!plan) planned = Failure(std::move(plan.error()));
  });
  CHECK_OK(planned);
  return taken;
}

int64_t Trainer::touched_later() const {
  const bool saves_beside_steps = recipe_.save_every > 0 && !recipe_.wait_for_saves;
  return kTrainingTouches + (draw_period(spec_) > 0 ? kPeriodTouches : 0) + (saves_beside_steps ? kSaveTouches : 0);
}

Result<void> Trainer::plan_within_budget() {
  packer_->clear(rows_);
  const PlanBudget budget{recipe_.memory, spec_.budget_bytes, spec_.runtime_bytes,
                          plan_.ledger,   touched_later(),    holes_};
  spec_.heap = [this](const TrainingPlan& plan) {
    int64_t heap = period_heap_;
    for (const Schedule* s : plan.schedules()) heap += Executor::memory_bytes(*s);
    return heap;
  };
  const int64_t exported =
      !spec_.trains_weights() ? 0 : kSaveBytesPerToken * tokenizer_->vocab_size() + hf_write_bytes(spec_.architecture);
  std::unique_ptr<TrainingPlanner> planner;  // lost where planning throws
  CHECK_OK(plan_with_runtime(budget, [&]() -> Result<int64_t> {
    plan_ = TrainingPlan();
    auto at_work = planner ? std::move(planner) : std::make_unique<TrainingPlanner>(spec_, machine_);
    at_work->when_looking(
        [this](int64_t rows) { events_.progress(fmt::format("planning: passes of {}", counted(rows, "token"))); });
    plan_ = TRY(at_work->plan());
    planner = std::move(at_work);
    period_heap_ = std::max(period_heap_, TRY(heap_of_a_period()));
    spec_.runtime_heap = spec_.heap(plan_);
    return spec_.runtime_heap + exported + heap_of_a_save();
  }));
  return {};
}

}  // namespace thimble
