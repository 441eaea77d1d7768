// A training run of a small model, with its recipe and budget drawn from the bytes: to a plan, within plenty of memory
// and within the least. What a plan promises is looked at; nothing is computed.
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "adapters/adapter.h"
#include "choices.h"
#include "fuzz_file.h"
#include "plan/planner.h"

namespace {
using namespace thimble;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "a plan breaks its promise: %s\n", what);
  std::abort();
}

Architecture architecture_of(Choices& choices) {
  const int64_t kv_heads = choices.between(1, 3), heads = kv_heads * choices.between(1, 3);
  return llama({.vocab = choices.between(2, 200),
                .width = 2 * choices.between(1, 40),
                .layers = choices.between(1, 5),
                .heads = heads,
                .kv_heads = kv_heads,
                .head_dim = 2 * choices.between(1, 20),
                .ffn_width = choices.between(1, 150),
                .context = 64});
}

// One of the options, anywhere within its bounds.
void set_one(Choices& choices, std::span<const Option> options, OptionValues& values) {
  if (options.empty()) return;
  const Option& option = choices.of(options);
  if (option.is_list()) return;
  const double part = static_cast<double>(choices.between(0, 255)) / 255;
  double value = option.least + part * part * part * (option.most - option.least);
  if (option.kind == Option::Kind::whole) value = static_cast<double>(static_cast<int64_t>(value));
  (void)values.set("fuzz", option.name, value);
}

Result<TrainingSpec> spec_of(Choices& choices) {
  TrainingSpec spec;
  spec.architecture = architecture_of(choices);
  spec.stored = [](const std::string& name) -> const Codec* { return name == "lm_head.weight" ? nullptr : &kF32; };
  const Rewrite& method = *choices.of(rewrites());
  OptionValues options(method.options);
  if (choices.yes()) set_one(choices, method.options, options);
  spec.rewrites = {{.rewrite = &method, .options = options}};
  if (!method.trains_weights) {
    nlohmann::ordered_json config;
    spec.rewrites = {TRY(fresh_rewrite(method, {options, {}, ""}, spec.architecture, config))};
  }
  spec.keepers = TRY(keepers_named(keepers_of(std::vector{&method})));
  spec.set_optimizer({choices.of(optimizers()), {}});
  if (choices.yes()) set_one(choices, spec.optimizer->options, spec.optimizer_options);
  spec.estimator = choices.of(estimators());
  spec.estimator_options = OptionValues(spec.estimator->options);
  if (choices.yes()) set_one(choices, spec.estimator->options, spec.estimator_options);
  if (spec.estimator == &kBackprop && spec.keepers.empty() && choices.yes())
    spec.keepers.emplace_back(*choices.of(keepers()));
  constexpr const Codec* kStates[] = {&kF32, &kBf16, &kInt8Block, &kFp8};
  spec.states = choices.of(std::span(kStates));
  spec.activation = choices.yes() ? &kF32 : &kBf16;
  spec.batch = choices.between(1, 4), spec.context = choices.between(2, 64), spec.accumulate = choices.between(1, 3);
  spec.clip = choices.yes() ? 1 : 0;
  spec.judges_gradients = choices.yes();
  spec.threads = static_cast<int>(choices.between(1, 3));
  spec.evaluates = choices.yes();
  spec.disk = choices.yes();
  spec.disk_least_bytes = 4096;
  CHECK_OK(add_wrappers(spec));
  return spec;
}

void check_plan(const TrainingSpec& spec, const TrainingPlan& plan) {
  for (const Schedule* schedule : plan.schedules())
    expect(check_placement(*schedule).has_value(), "values apart in the arena");
  expect(spec.budget_bytes == 0 || plan.bytes() <= spec.budget_bytes, "bytes within the budget");
  expect(plan.train.graph.verify().has_value(), "a legal graph");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Choices choices(data, size);
  auto spec = spec_of(choices);
  if (!spec) return 0;
  const auto plenty = plan_training(*spec, Machine{});
  if (!plenty) return 0;
  check_plan(*spec, *plenty);
  spec->budget_bytes = 1;
  const auto refused = plan_training(*spec, Machine{});
  expect(!refused && refused.error().least_bytes > 0, "a refusal that names the least budget");
  spec->budget_bytes = refused.error().least_bytes;
  const auto least = plan_training(*spec, Machine{});
  expect(least.has_value(), "the budget that a refusal names does");
  check_plan(*spec, *least);
  expect(least->numerics_hash == plenty->numerics_hash, "the same numerics at every budget");
  return 0;
}
