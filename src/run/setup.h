// What every run does before it plans: threads, model, tokenizer, the choice of products; and planning against what the
// process really occupies.
#pragma once

#include <memory>
#include <string>

#include "models/model_source.h"
#include "plan/machine.h"
#include "run/arena.h"
#include "run/events.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace thimble {

constexpr int64_t kHeapReserve = 2 << 20;  // heap that a run may use for small things

// 0: one a CPU.
int thread_count(int64_t asked);

// The tokenizer of `tokenizer`, or of the model when that is empty; at most as many tokens as the model has.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& tokenizer, const ModelSource& model);

// --multiply under --precision. bf16 only where the CPU has it; `auto` takes it where it is worth it.
Result<Multiply> choose_multiply(const std::string& multiply, const std::string& precision, const Machine& machine);

// Bad lines, and counts of what was left out.
void report_data(Events& events, const std::string& path, const DatasetReport& report);

// The budget of the process: what was asked for, or 80 % of what is free.
int64_t budget_or_free(int64_t asked);

// Plans twice or more: first with a guess of what the process occupies, then with the measured figure, because the plan
// itself takes heap. `plan` plans with runtime_bytes and gives the number of steps that executors will hold.
template <class Plan>
Result<void> plan_with_runtime(int64_t& runtime_bytes, Plan plan) {
  populate_runtime(kHeapReserve);
  runtime_bytes = resident_bytes() + (4 << 20);
  for (int round = 0; round < 3; ++round) {
    const int64_t steps = TRY(plan());
    populate_runtime(kHeapReserve);
    // The executors resolve every operand of every step.
    const int64_t measured = resident_bytes() + steps * 800 + (256 << 10);
    if (measured <= runtime_bytes && runtime_bytes - measured < (512 << 10)) break;
    runtime_bytes = measured;
  }
  return {};
}

}  // namespace thimble
