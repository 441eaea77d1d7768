// Trainer: options of single layers that techniques settle before the run is planned, from its data or the model's
// weights. The checkpoint keeps them with the adapter's configuration, so that a run that is resumed trains the same.
#include <nlohmann/json.hpp>

#include "adapters/peft_config.h"
#include "core/count.h"
#include "plan/selection.h"
#include "run/arena.h"
#include "run/derived.h"
#include "run/setup.h"
#include "run/trainer.h"

namespace thimble {

Result<void> Trainer::settle_layers() {
  for (size_t i = 0; i < spec_.rewrites.size(); ++i) {
    RewriteSpec& spec = spec_.rewrites[i];
    const Settling* const settling = spec.rewrite->settling;
    if (!settling || spec.given) continue;
    const bool wanted = settling->windows ? settling->windows(spec.options) > 0 : settling->wanted(spec.options);
    if (!wanted) continue;
    const auto measured = settling->windows ? probe_layers(i) : measure_weights(spec);
    if (!measured) return Failure(larger_refusal(spec, measured.error()));
    const auto chosen = settling->settle(*measured, spec.modules);
    if (!chosen) return fail(chosen.error().code, "--method {}: {}", spec.rewrite->name, chosen.error().message);
    write_settled(spec, (*configs_)[i]);
    settled_layers_ = true;
    events_.note(fmt::format("--method {}: {}", spec.rewrite->name, *chosen));
  }
  if (settled_layers_ && source_) spec_.begin_bytes = TRY(begin_bytes(spec_.rewrites, *source_));
  return {};
}

// Where a budget is too small to measure in, the run that is planned afterwards may take more still: of both refusals
// the one that names the larger budget, in which both fit whatever is chosen.
Error Trainer::larger_refusal(RewriteSpec& spec, const Error& measuring) {
  if (measuring.code != ErrorCode::over_budget) return measuring;
  const auto modules = spec.modules;
  const auto widest = spec.rewrite->settling->widest;
  Result<void> run = widest ? widest(spec.modules) : Result<void>();
  if (run) run = plan_within_budget();
  spec.modules = modules, plan_ = TrainingPlan();
  if (run || run.error().least_bytes <= measuring.least_bytes) return measuring;
  Error error = run.error();
  if (widest) error.message += fmt::format(", enough for whatever --method {} chooses by the data", spec.rewrite->name);
  return error;
}

Result<Settling::Measured> Trainer::probe_layers(size_t place) {
  const Rewrite& technique = *spec_.rewrites[place].rewrite;
  Settling::Measured measured;
  const int64_t windows = technique.settling->windows(spec_.rewrites[place].options);
  const auto whole = [](int64_t) { return 1.0; };  // counts of tokens stay whole numbers
  const Result<void> done = measure_gradients(probing_spec(spec_, place), windows, whole, [&] {
    for (const TrainedParameter& parameter : plan_.train.parameters) {
      if (!parameter.name.ends_with(kProbe)) continue;  // a head for labels
      const std::string name = parameter.name.substr(0, parameter.name.size() - kProbe.size());
      std::vector<float>& sum = measured[name];
      const float* const numbers = input<float>(score_name(parameter.name));
      sum.resize(static_cast<size_t>(parameter.shape.columns()));
      for (size_t j = 0; j < sum.size(); ++j) sum[j] += numbers[j];
    }
  });
  if (done) return measured;
  Error error = done.error();
  error.message =
      fmt::format("measuring the layers of --method {}: {}{}", technique.name, error.message,
                  error.code == ErrorCode::invalid_argument && technique.changes_layers()
                      ? fmt::format("; of what --target names it measures none: name {} too", technique.targets)
                      : "");
  return Failure(error);
}

Result<Settling::Measured> Trainer::measure_weights(const RewriteSpec& spec) {
  Settling::Measured measured;
  const int64_t most = budget_or_free(recipe_.memory) - resident_bytes();
  for (const auto& [name, module] : spec.modules) {
    auto values = measure_weight(*spec.rewrite, module, *source_, *threads_, most);
    if (!values && values.error().code == ErrorCode::over_budget) {
      Error error = values.error();
      error.least_bytes = whole_megabytes(resident_bytes() + error.least_bytes + kRuntimeVaries);
      error.message += fmt::format(", {}M at least", error.least_bytes / 1'000'000);
      return Failure(error);
    }
    measured[name] = TRY(std::move(values));
    events_.progress(fmt::format("--method {}: weights, {} of {}", spec.rewrite->name, measured.size(),
                                 counted(static_cast<int64_t>(spec.modules.size()), "layer")));
  }
  return measured;
}

}  // namespace thimble
