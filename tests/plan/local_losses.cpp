#include "plan/local_losses.h"

#include <algorithm>
#include <cmath>

namespace thimble {

TrainingSpec local_spec(const Estimator& estimator, int64_t layers,
                        const std::vector<std::pair<std::string_view, double>>& options, const Rewrite& method) {
  TrainingSpec spec = tiny_spec(method);
  spec.architecture = tiny_llama(layers);
  spec.rewrites = {rewrite_for_tests(method, spec.architecture)};
  spec.estimator = &estimator;
  spec.estimator_options = OptionValues(estimator.options);
  for (const auto& [name, value] : options) EXPECT_TRUE(spec.estimator_options.set(estimator.name, name, value));
  spec.optimizer = &kSgd;
  spec.optimizer_options = OptionValues(kSgd.options);
  spec.clip = 0;
  spec.batch = 2, spec.context = 64;
  spec.activation = &kF32;
  return spec;
}

namespace {

bool is_weight(const Layout::Entry& entry) { return entry.role == Role::parameter || entry.role == Role::weight; }

}  // namespace

Numbers weights_at_the_beginning(const TrainingSpec& spec) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  Numbers out;
  if (!plan) return out;
  run_plan(spec, *plan, 0, 0, [&](Values& values) {
    for (const auto& [name, entry] : plan->layout.entries()) {
      if (!is_weight(entry)) continue;
      out[name].resize(static_cast<size_t>(entry.type.shape.count()));
      EXPECT_TRUE(values.read(entry, 0, std::as_writable_bytes(std::span(out[name]))));
    }
  });
  return out;
}

Numbers after_a_step(const TrainingSpec& spec, double rate, const Numbers& begin) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  if (!plan) return {};
  Numbers out;
  const auto numbers = [&](Values& values, const Layout::Entry& entry) {
    return std::span(reinterpret_cast<float*>(values.memory(entry)), static_cast<size_t>(entry.type.shape.count()));
  };
  run_plan(
      spec, *plan, 1, rate,
      [&](Values& values) {
        for (const auto& [name, entry] : plan->layout.entries()) {
          if (entry.role != Role::parameter && entry.role != Role::result) continue;
          const auto now = numbers(values, entry);
          out[name].assign(now.begin(), now.end());
        }
      },
      0,
      [&](Values& values) {
        for (const auto& [name, entry] : plan->layout.entries())
          if (const auto found = begin.find(name); found != begin.end() && is_weight(entry))
            std::ranges::copy(found->second, numbers(values, entry).begin());
      });
  return out;
}

void expect_gradient(const TrainingSpec& spec, const std::string& parameter, const std::string& own) {
  SCOPED_TRACE(parameter + " by " + own);
  constexpr double kRate = 100, kMoved = 1e-2, kGrown = 6;
  Numbers begin = values_after(spec, 0, 0);
  // Weights of such size that the gradients are no rounding errors of them.
  for (auto& [name, numbers] : begin)
    if (name.ends_with("_proj.weight"))
      for (float& x : numbers) x *= static_cast<float>(kGrown);
  const std::vector<float> at = begin.at(parameter), stepped = after_a_step(spec, kRate, begin).at(parameter);
  const auto loss = [&] {
    double sum = 0;
    const std::vector<float> rows = after_a_step(spec, 0, begin).at(own);
    for (const float row : rows) sum += double{row};
    return own.find(".module_") != std::string::npos ? sum : sum / static_cast<double>(rows.size());
  };
  double apart = 0, length = 0;
  for (size_t i = 3; i < at.size(); i += at.size() / 6) {
    std::vector<float>& moved = begin.at(parameter);
    moved[i] = at[i] + static_cast<float>(kMoved);
    const double up = loss();
    moved[i] = at[i] - static_cast<float>(kMoved);
    const double down = loss();
    moved[i] = at[i];
    const double expected = (up - down) / (2 * kMoved), taken = (double{at[i]} - double{stepped[i]}) / kRate;
    apart += (expected - taken) * (expected - taken), length += expected * expected;
  }
  EXPECT_GT(length, 0);
  EXPECT_LT(std::sqrt(apart / length), 5e-2);  // differences of sums in f32
}

int64_t kept_bytes(const TrainingPlan& plan) {
  int64_t most = 0;
  for (const int turn : turns(plan.train.graph, plan.pass)) {
    int64_t bytes = 0;
    for (const Storage& storage : plan.pass.storages)
      if (storage.begin < turn && storage.end >= turn) bytes += storage.bytes;
    most = std::max(most, bytes);
  }
  return most;
}

}  // namespace thimble
