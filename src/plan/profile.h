// Memory over one step: how much of what is alive when. For the report.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "plan/training.h"

namespace thimble {

// What memory is held for. The order is that of the picture, from the bottom.
enum class Held { runtime, weights, states, gradients, inputs, kept, working, workspace };
constexpr std::array<std::string_view, 8> kHeldNames = {
    "runtime", "weights", "optimizer states", "gradients", "inputs, tables", "kept activations", "working activations", "workspace"};

struct ProfilePoint {
  std::string name;  // what runs: "backward: linear model.layers.3.mlp.up_proj"
  int step = 0;      // of the schedule; those of the update follow those of the pass
  std::array<int64_t, kHeldNames.size()> bytes{};
  int64_t total() const;
};

// One pass, then the update, as at most `points` points: where steps share one, it is the one that holds most.
std::vector<ProfilePoint> memory_profile(const TrainingPlan& plan, int64_t runtime_bytes, size_t points);

}  // namespace thimble
