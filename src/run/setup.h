// What every run does before it plans: threads, model, tokenizer, the choice of products; and planning against what the
// process really occupies.
#pragma once

#include <memory>
#include <new>
#include <string>

#include "core/control_groups.h"
#include "models/hf_config.h"
#include "models/model_source.h"
#include "plan/ledger.h"
#include "plan/machine.h"
#include "report/events.h"
#include "run/arena.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace thimble {

constexpr int64_t kHeapReserve = 3 << 20;  // heap that a run may use for small things

// Pages of stacks and libraries that only a run touches: of training, and of generating, which chat does line by line.
constexpr int64_t kTrainingTouches = 288 << 10;
constexpr int64_t kInferenceTouches = 576 << 10;
// Stack of the thread that writes a checkpoint while steps run.
constexpr int64_t kSaveTouches = 64 << 10;
// Heap that a selector's later periods take where the first had none (measured: up to 400 kB).
constexpr int64_t kPeriodTouches = 512 << 10;

// 0: one a CPU.
int thread_count(int64_t asked);

// The tokenizer of `tokenizer`, or of the model when that is empty; one that is missing (tokenizer.h) where the model
// brings none.
Result<std::unique_ptr<Tokenizer>> tokenizer_of(const std::string& tokenizer, const ModelSource& model);
// The same; tokens that the model has no row for are warned of, and refused where they are used.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& tokenizer, const ModelSource& model);
// Of the tokenizer; without one (nullptr, or not usable) of `model`, a config.json or a folder with one.
Result<SpecialIds> special_ids(const Tokenizer* tokenizer, const std::string& model);

// --multiply under --precision. bf16 only where the CPU has it; `auto` takes it where it is worth it.
Result<Multiply> choose_multiply(const std::string& multiply, const std::string& precision, const Machine& machine);

// --columns field=column and --truncate, as a data set takes them.
Result<void> set_data_options(const std::vector<std::string>& columns, const std::string& truncate,
                              DatasetOptions& options);

// Refuses --bos where the tokenizer has no such token.
Result<void> check_bos(bool asked, const Tokenizer& tokenizer);

// Bad lines, and counts of what was left out.
void report_data(Events& events, const std::string& path, const DatasetReport& report);
// The fields of an event that says the same.
std::string data_json(const std::string& path, const DatasetReport& report);
// Of fields without effect: {"name":how many records have it}.
std::string unused_json(const DatasetReport& report);

// The budget of the process: what was asked for, or 80 % of what is free.
int64_t budget_or_free(int64_t asked);

// Refuses a budget that the process's control group would answer by killing it.
Result<void> check_budget(int64_t asked, const ControlGroups& groups = {});

// What planning within a budget reads and sets.
struct PlanBudget {
  int64_t asked_bytes;     // 0: 80 % of what is free
  int64_t& budget_bytes;   // of the next plan; 0: none
  int64_t& runtime_bytes;  // of the process without the arena
  Ledger& ledger;          // of the plan that was made
  int64_t touched_later;   // bytes that are resident only when the run is under way
  HeapHoles& holes;        // held as long as the plan is carried out
};

// A very small model needs less than the start itself took: then that is the planned peak.
Result<void> include_start(const PlanBudget& budget);

// plan(). Where planning takes more heap than the budget leaves (hold_heap_to), it is done once more within what is
// free, and `beyond` is set: the refusal can say what would do.
template <class MakePlan>
Result<int64_t> plan_beyond_budget(MakePlan& plan, bool& beyond) {
  try {
    return plan();
  } catch (const std::bad_alloc&) {
    beyond = true;
    let_heap_go();
    hold_heap_to(budget_or_free(0), 0);
  }
  return plan();
}

// The plan itself takes heap, and what the process occupies decides what the arena may take: planned once without a
// budget to learn the first, then within it until a plan leaves the process what it takes. `plan` returns what the
// executors will take of the heap.
template <class MakePlan>
Result<void> plan_within(const PlanBudget& budget, int64_t asked_bytes, MakePlan& plan) {
  constexpr int kClose = 6, kMost = 12;  // rounds for a close fit, and at all
  constexpr int64_t kSlack = 160 << 10;
  budget.budget_bytes = 0;
  bool beyond = false;
  for (int round = 0; round < kMost; ++round) {
    budget.holes.release();
    give_heap_back();
    const int64_t heap = TRY(plan_beyond_budget(plan, beyond));
    populate_runtime(kHeapReserve + heap, &budget.holes);
    // Small things beside it, in holes too small to be held: more of them, the larger the plan.
    const int64_t taken = beyond ? peak_resident_bytes() : resident_bytes();
    const int64_t measured = taken + budget.touched_later + heap / 8;
    const int64_t left = budget.runtime_bytes - measured, slack = std::max(kSlack, heap / 8);
    if (budget.budget_bytes > 0 && left >= 0 && (left < slack || round >= kClose)) return include_start(budget);
    // What a large plan takes varies from round to round: half of its slack is set aside, so that the next is the last.
    budget.runtime_bytes =
        round < kClose ? measured + (slack - kSlack) / 2 : std::max(measured, budget.runtime_bytes) + slack;
    budget.budget_bytes = budget_or_free(asked_bytes);
  }
  return Failure(
      Error{ErrorCode::over_budget,
            "within which every plan takes more of the process than the one before; give a larger --memory"});
}

Failure refused_within(int64_t budget_bytes, const Error& error);

// plan_within() what was asked for. Where that is refused, the budget that the refusal names has been tried: planning
// within little takes more of the process than finding out that nothing fits.
template <class MakePlan>
Result<void> plan_with_runtime(const PlanBudget& budget, MakePlan plan) {
  constexpr int kTrials = 4;
  CHECK_OK(check_budget(budget.asked_bytes));
  auto planned = plan_within(budget, budget.asked_bytes, plan);
  if (planned || planned.error().code != ErrorCode::over_budget) return planned;
  const int64_t given = budget.budget_bytes;
  Error refusal = std::move(planned.error());
  for (int trial = 0; trial < kTrials && refusal.least_bytes > 0; ++trial) {
    budget.holes.release();
    give_heap_back();
    forget_peak_resident();  // a run within that budget does not find out that another is too small
    // With room for what differs from start to start: a run that is resumed has a checkpoint open too.
    auto tried = plan_within(budget, refusal.least_bytes - kRuntimeVaries, plan);
    if (tried || tried.error().least_bytes <= refusal.least_bytes) break;
    refusal = std::move(tried.error());
  }
  return refused_within(given, refusal);
}

}  // namespace thimble
