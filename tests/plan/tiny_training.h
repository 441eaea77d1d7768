// Training a tiny random model straight from its plan: no files, no process budget.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adapters/adapter.h"
#include "plan/planner.h"
#include "run/passes.h"
#include "run/weights.h"
#include "whole.h"

namespace thimble {

// The method on every layer that it is for, of this rank where it has one; 0: its own.
RewriteSpec rewrite_for_tests(const Rewrite& method, const Architecture& architecture, double rank = 0);

Architecture tiny_llama(int64_t layers = 4);
// Of a line of the ledger; 0 where there is none.
int64_t ledger_bytes(const TrainingPlan& plan, std::string_view item);
// Of SmolLM2-135M's extents.
Architecture smollm2_shape();

// Those that find something to train in a small Llama.
std::vector<const Rewrite*> methods_for_tests();

TrainingSpec tiny_spec(const Rewrite& method = kFull);

// With what the objective needs beside text: a smaller teacher, a head for labels.
void set_objective(TrainingSpec& spec, const Objective& objective);

// Trained parameters in the order of their names, which is that of no gradient.
std::vector<TrainedParameter> by_name(const TrainingPlan& plan);

// Losses of `steps` steps, then every trained number, bit for bit.
struct Trajectory {
  std::vector<double> losses;
  std::vector<float> parameters;
  bool operator==(const Trajectory&) const = default;
};

// `look` sees the values at the end, `begin` before the first step; `seed` is that of what steps draw.
Trajectory run_plan(const TrainingSpec& spec, const TrainingPlan& plan, int steps, double rate = 1e-2,
                    const std::function<void(Values&)>& look = nullptr, uint64_t seed = 0,
                    const std::function<void(Values&)>& begin = nullptr);

// Training with a method whose options are set so, and with an optimizer and what the method puts around it.
TrainingSpec adapted_spec(const Rewrite& method, const std::vector<std::pair<std::string_view, double>>& options,
                          const OptimizerStack& optimizer);

// Every parameter and state after so many steps.
std::map<std::string, std::vector<float>> values_after(const TrainingSpec& spec, int steps, double rate = 0.1);

// Trains with plenty, and within the smallest budget with and without a disk: the same bits.
void expect_same_bits_at_the_smallest_budget_and_on_disk(TrainingSpec spec, int steps);

// The smallest budget that a refusal names, in bytes.
int64_t smallest_budget(TrainingSpec spec);

}  // namespace thimble
