// Training a tiny random model straight from its plan: no files, no process budget.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/random.h"
#include "plan/training.h"
#include "run/executor.h"
#include "run/weights.h"

namespace thimble {

inline TrainingSpec tiny_spec(const Method& method = kFull) {
  TrainingSpec spec;
  Architecture& a = spec.architecture;
  a.family = "llama";
  a.vocab = 160, a.width = 64, a.layers = 4, a.heads = 4, a.kv_heads = 2, a.head_dim = 16, a.ffn_width = 128,
  a.context = 256;
  spec.stored = [](const std::string& name) -> const Codec* { return name == "lm_head.weight" ? nullptr : &kF32; };
  spec.method = &method;
  spec.optimizer_options = OptionValues(spec.optimizer->options);
  spec.batch = 4, spec.context = 256;
  spec.activation = &kBf16;
  spec.threads = 2;
  return spec;
}

// Losses of `steps` steps, then every trained number, bit for bit.
struct Trajectory {
  std::vector<double> losses;
  std::vector<float> parameters;
  bool operator==(const Trajectory&) const = default;
};

inline Trajectory run_plan(const TrainingSpec& spec, const TrainingPlan& plan, int steps) {
  const auto bytes = static_cast<size_t>(plan.arena_bytes + 63) / 64 * 64;
  const std::unique_ptr<std::byte, decltype(&std::free)> arena(static_cast<std::byte*>(std::aligned_alloc(64, bytes)),
                                                               std::free);
  std::byte* const base = arena.get();
  std::memset(base, 0xFF, bytes);  // NaN everywhere: what is read before it is written shows
  const auto at = [&](const std::string& name) { return base + plan.layout.find(name)->offset; };
  initialise_weights(spec.architecture, plan.layout, base, 1);
  initialise_adapter(plan.layout, base, 1);
  fill_constants(spec.architecture, plan.layout, base);
  for (const auto& [name, entry] : plan.layout.entries())
    if (entry.role == Role::state) std::memset(base + entry.offset, 0, static_cast<size_t>(entry.type.bytes()));

  Executor pass(plan.train.graph, plan.pass, plan.layout, base, plan.layout.bytes());
  std::unique_ptr<Executor> update;
  if (plan.train.barrier)
    update = std::make_unique<Executor>(plan.train.graph, plan.update, plan.layout, base, plan.layout.bytes());
  Threads threads(spec.threads);
  const Random random(3, "tokens");
  const int64_t rows = spec.batch * spec.context;
  Trajectory out;
  for (int step = 0; step < steps; ++step) {
    RunContext context{threads, spec.multiply, 0, static_cast<uint64_t>(step), 0};
    const auto scalar = [&](const std::string& name, double value) {
      *reinterpret_cast<float*>(at(name)) = static_cast<float>(value);
    };
    scalar("train.scale", 1.0 / static_cast<double>(rows));
    scalar("update.learning_rate", 1e-2);
    scalar("update.step", step + 1);
    for (const auto& [name, entry] : plan.layout.entries())
      if (entry.role == Role::gradient) std::memset(base + entry.offset, 0, static_cast<size_t>(entry.type.bytes()));
    double loss = 0;
    for (int64_t first = 0; first < rows; first += plan.rows) {
      for (int64_t i = 0; i < plan.rows; ++i) {
        const auto token = [&](int64_t row) {
          return static_cast<int32_t>(random.uniform(static_cast<uint64_t>(step * rows + row)) * 0.999f *
                                      static_cast<float>(spec.architecture.vocab));
        };
        const int64_t row = first + i, window = row / spec.context * spec.context;
        reinterpret_cast<int32_t*>(at("train.ids"))[i] = token(row);
        reinterpret_cast<int32_t*>(at("train.targets"))[i] = token(row / 2);
        reinterpret_cast<int32_t*>(at("train.positions"))[i] = static_cast<int32_t>(row - window);
        reinterpret_cast<int32_t*>(at("train.starts"))[i] = static_cast<int32_t>(window - first);
      }
      pass.run(context);
      context.first_row += static_cast<uint64_t>(plan.rows);
      for (int64_t i = 0; i < plan.rows; ++i) loss += reinterpret_cast<const float*>(at("train.nll"))[i];
    }
    if (update) update->run(context);
    out.losses.push_back(loss / static_cast<double>(rows));
  }
  for (const TrainedParameter& parameter : plan.train.parameters) {
    const auto* const values = reinterpret_cast<const float*>(at(parameter.name));
    out.parameters.insert(out.parameters.end(), values, values + parameter.shape.count());
  }
  return out;
}

// The smallest budget that a refusal names, in bytes.
inline int64_t smallest_budget(TrainingSpec spec) {
  spec.budget_bytes = 1;
  const auto refused = plan_training(spec, Machine{});
  if (refused) return -1;
  const std::string& message = refused.error().message;
  const size_t begin = message.rfind("--memory ") + 9;
  return std::strtoll(message.c_str() + begin, nullptr, 10) * 1'000'000;
}

}  // namespace thimble
