// Training that a selector chooses of: what tests of selectors share.
#pragma once

#include <gmock/gmock.h>

#include <cmath>
#include <set>
#include <string>

#include "methods/selector.h"
#include "plan/tiny_training.h"
#include "whole.h"

namespace thimble {

inline void set(TrainingSpec& spec, std::string_view option, std::string_view value) {
  const auto done = spec.selector_options.set(spec.selector->name, option, value);
  ASSERT_TRUE(done) << done.error().message;
}

inline TrainingSpec selecting(const Selector& selector, const Rewrite& method = kFull) {
  TrainingSpec spec = tiny_spec(method);
  spec.selector = &selector, spec.selector_options = OptionValues(selector.options);
  return spec;
}

// Three steps of a selector that draws so many layers for so many steps.
inline TrainingSpec drawing(const Selector& selector, std::string_view layers, std::string_view period,
                            const Rewrite& method) {
  TrainingSpec spec = selecting(selector, method);
  set(spec, "layers", layers), set(spec, "period", period);
  spec.steps = 3;
  return spec;
}

inline std::set<std::string> trained(const TrainingPlan& plan) {
  std::set<std::string> out;
  for (const TrainedParameter& parameter : plan.train.parameters) out.insert(parameter.name);
  return out;
}

// Bytes of masters, gradients and states, as they are declared.
inline int64_t declared(const TrainingPlan& plan) {
  int64_t bytes = 0;
  for (const TrainedParameter& parameter : plan.train.parameters) {
    bytes += 2 * Type{parameter.shape}.bytes();
    for (const auto& [name, state] : parameter.states) bytes += Type{state.shape, state.codec}.bytes();
  }
  return bytes;
}

// The same losses and numbers at the least budget, half-way, and with a disk.
inline void expect_same_at_every_budget(TrainingSpec spec) {
  const auto plenty = plan_training(spec, Machine{});
  ASSERT_TRUE(plenty) << plenty.error().message;
  const Trajectory expected = run_plan(spec, *plenty, 3);
  ASSERT_NE(expected.losses[0], expected.losses[2]) << "nothing was trained";
  for (const double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
  for (const bool disk : {false, true}) {
    spec.disk = disk, spec.disk_least_bytes = 4096;
    const int64_t least = smallest_budget(spec);
    for (const int64_t budget : {least, (least + plenty->arena_bytes) / 2}) {
      if (budget != least && (disk || !whole_tests())) continue;
      spec.budget_bytes = budget;
      const auto plan = plan_training(spec, Machine{.disk = {1e9, 1e9}});
      ASSERT_TRUE(plan) << plan.error().message;
      EXPECT_EQ(plan->numerics_hash, plenty->numerics_hash);
      EXPECT_EQ(run_plan(spec, *plan, 3), expected) << "disk " << disk << " budget " << budget;
    }
  }
}

// Layers that a period has drawn, by the names that train.
inline std::set<int> drawn_layers(const TrainingPlan& plan) {
  std::set<int> out;
  for (const TrainedParameter& parameter : plan.train.parameters)
    if (parameter.layer >= 0) out.insert(parameter.layer);
  return out;
}

}  // namespace thimble
