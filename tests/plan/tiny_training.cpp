#include "plan/tiny_training.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/random.h"

namespace thimble {

RewriteSpec rewrite_for_tests(const Rewrite& method, const Architecture& architecture, double rank) {
  OptionValues options(method.options);
  if (rank > 0) EXPECT_TRUE(options.set("test", "rank", rank));
  // All of them: one block of four needs so little that no budget in whole megabytes forces anything.
  if (&method == &kEarlybird) EXPECT_TRUE(options.set("test", "blocks", static_cast<double>(architecture.layers())));
  if (method.trains_weights) return {.rewrite = &method, .options = options};
  nlohmann::ordered_json config;
  auto spec = fresh_rewrite(method, {options, {}, ""}, architecture, config);
  EXPECT_TRUE(spec) << spec.error().message;
  return *std::move(spec);
}

int64_t ledger_bytes(const TrainingPlan& plan, std::string_view item) {
  const auto found = std::ranges::find(plan.ledger.items, item, &LedgerItem::name);
  return found == plan.ledger.items.end() ? 0 : found->bytes;
}

Architecture smollm2_shape() {
  return llama({.vocab = 49152,
                .width = 576,
                .layers = 30,
                .heads = 9,
                .kv_heads = 3,
                .head_dim = 64,
                .ffn_width = 1536,
                .context = 2048});
}

Architecture tiny_llama(int64_t layers) {
  return llama({.vocab = 160,
                .width = 64,
                .layers = layers,
                .heads = 4,
                .kv_heads = 2,
                .head_dim = 16,
                .ffn_width = 128,
                .context = 256});
}

std::vector<const Rewrite*> methods_for_tests() {
  std::vector<const Rewrite*> out;
  for (const Rewrite* method : rewrites()) {
    nlohmann::ordered_json config;
    const FreshAdapter asked{OptionValues(method->options), {}, ""};
    const bool trains = method->trains_weights || fresh_rewrite(*method, asked, tiny_llama(), config);
    if (trains) out.push_back(method);
  }
  return out;
}

TrainingSpec tiny_spec(const Rewrite& method) {
  TrainingSpec spec;
  spec.architecture = tiny_llama();
  spec.stored = [](const std::string& name) -> const Codec* { return name == "lm_head.weight" ? nullptr : &kF32; };
  spec.rewrites = {rewrite_for_tests(method, spec.architecture)};
  if (method.training_only) spec.rewrites.insert(spec.rewrites.begin(), rewrite_for_tests(kLora, spec.architecture));
  spec.keepers = *keepers_named(keepers_of(std::vector{&method}));
  spec.optimizer_options = OptionValues(spec.optimizer->options);
  spec.batch = 8, spec.context = 128;
  spec.activation = &kBf16;
  spec.threads = test_threads();
  return spec;
}

void set_objective(TrainingSpec& spec, const Objective& objective) {
  spec.objective = &objective;
  spec.objective_options = OptionValues(objective.options);
  if (objective.labels) {
    Labels labels{*objective.labels, {"number"}};
    if (labels.kind == Labels::Kind::classes) labels.names.assign(160, "label");  // targets are tokens
    spec.architecture = labelled(spec.architecture, labels);
    spec.stored = [](const std::string&) { return &kF32; };
  }
  if (!objective.teacher) return;
  spec.teacher =
      FrozenModel{llama({.vocab = 160,
                         .width = 96,
                         .layers = 2,
                         .heads = 3,
                         .kv_heads = 3,
                         .head_dim = 32,
                         .ffn_width = 160,
                         .context = 256}),
                  [](const std::string& name) -> const Codec* { return name == "lm_head.weight" ? nullptr : &kF32; }};
}

std::vector<TrainedParameter> by_name(const TrainingPlan& plan) {
  std::vector<TrainedParameter> out = plan.train.parameters;
  std::ranges::sort(out, {}, &TrainedParameter::name);
  return out;
}

namespace {

// Inputs beside tokens, where the objective reads them: a window is a pair of replies of one length, or a text whose
// last row has its number.
void write_examples(const TrainingPlan& plan, std::byte* base, int64_t first, int64_t context) {
  const auto write = [&](std::string_view name, auto value) {
    const Layout::Entry* const entry = plan.layout.find(plan.train.prefix + std::string(name));
    if (!entry) return;
    auto* const to = reinterpret_cast<decltype(value(0, 0))*>(base + entry->offset);
    const int64_t count = std::min(plan.rows, entry->type.shape.count());
    for (int64_t i = 0; i < count; ++i) to[i] = value((first + i) / context, (first + i) % context);
  };
  const auto at_first = [](float x) {
    return [x](int64_t window, int64_t row) { return row == 0 ? x + 0.01f * static_cast<float>(window) : 0; };
  };
  write(kPairStarts, [&](int64_t window, int64_t) { return static_cast<int32_t>(window * context - first); });
  write(kPairSign, [&](int64_t, int64_t row) { return row < context / 2 ? 1.0f : -1.0f; });
  write(kPairShare, [&](int64_t, int64_t) { return 2 / static_cast<float>(context); });
  write(kPairFirst, [](int64_t, int64_t row) { return row == 0 ? 1.0f : 0.0f; });
  write(kPairReference, at_first(0.3f));
  write(kReplyLabel, [](int64_t window, int64_t row) { return row > 0 ? 0.0f : window % 2 ? 1.0f : -1.0f; });
  write(kReplyDrift, [](int64_t, int64_t) { return 0.2f; });
  write(kTextLabel,
        [&](int64_t window, int64_t row) { return row + 1 == context ? 0.5f + static_cast<float>(window) : 0.0f; });
  write(kTextLast, [&](int64_t, int64_t row) { return row + 1 == context ? 1.0f : 0.0f; });
}

}  // namespace

Trajectory run_plan(const TrainingSpec& spec, const TrainingPlan& plan, int steps, double rate,
                    const std::function<void(Values&)>& look, uint64_t seed,
                    const std::function<void(Values&)>& begin) {
  const auto bytes = static_cast<size_t>(plan.arena_bytes + 4095) / 4096 * 4096;
  const std::unique_ptr<std::byte, decltype(&std::free)> arena(static_cast<std::byte*>(std::aligned_alloc(4096, bytes)),
                                                               std::free);
  std::byte* const base = arena.get();
  std::memset(base, 0xFF, bytes);  // NaN everywhere: what is read before it is written shows
  const auto at = [&](const std::string& name) { return base + plan.layout.find(name)->offset; };
  Threads threads(spec.threads);
  std::unique_ptr<Scratch> scratch;
  if (plan.scratch_bytes > 0)
    scratch = std::move(*Scratch::create({.folder = testing::TempDir(), .bytes = plan.scratch_bytes}, threads));
  Values values(plan, base, scratch.get());
  EXPECT_TRUE(initialise(values, {}, 1));
  for (const AdapterTensor& tensor : plan.train.adapter)
    if (tensor.derived)  // there is no model that they could begin from
      EXPECT_TRUE(values.fill(*plan.layout.find(tensor.value), 1,
                              [](int64_t, int64_t count, std::byte* to, std::span<std::byte>) {
                                std::fill_n(reinterpret_cast<float*>(to), count, 1.0f);
                                return Result<void>();
                              }));
  if (begin) begin(values);
  TrainingPlan drawn;  // of a later period of the selector
  auto passes = std::make_unique<Passes>(plan, base, scratch.get());
  const Random random(3, "tokens");
  const int64_t rows = spec.batch * spec.context;
  Trajectory out;
  for (int step = 0; step < steps; ++step) {
    RunContext context{threads, spec.multiply, seed, static_cast<uint64_t>(step), 0};
    if (const int64_t period = draw_period(spec); period > 0 && step > 0 && step % period == 0) {
      EXPECT_TRUE(passes->flush(context));
      passes.reset();
      drawn = *plan_period(spec, Machine{.disk = {1e9, 1e9}}, plan, step / period);
      EXPECT_TRUE(drawn.layout.same_places(plan.layout));
      EXPECT_LE(drawn.transient_bytes, plan.transient_bytes);
      passes = std::make_unique<Passes>(drawn, base, scratch.get());
    }
    passes->begin_step(context, {rate, 1.0 / static_cast<double>(rows)});
    const auto sweep = [&]() -> Result<double> {
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
        write_examples(plan, base, first, spec.context);
        EXPECT_TRUE(passes->pass(context, {first == 0, first + plan.rows >= rows}));
        context.first_row += static_cast<uint64_t>(plan.rows);
        for (int64_t i = 0; i < plan.rows; ++i) loss += reinterpret_cast<const float*>(at(plan.train.loss))[i];
      }
      return loss / static_cast<double>(rows);
    };
    const bool probes = !spec.estimator->differentiates();
    out.losses.push_back(probes ? passes->estimate(context, sweep)->loss : *sweep());
    EXPECT_TRUE(passes->end_step(context));
    EXPECT_TRUE(*passes->measure_curvature(context, sweep));
  }
  RunContext context{threads, spec.multiply, 0, 0, 0};
  EXPECT_TRUE(passes->flush(context));
  if (look) look(values);
  for (const auto& [name, entry] : plan.layout.entries()) {
    if (entry.role != Role::parameter) continue;
    std::vector<float> trained(static_cast<size_t>(entry.type.shape.count()));
    EXPECT_TRUE(values.read(entry, 0, std::as_writable_bytes(std::span(trained))));
    out.parameters.insert(out.parameters.end(), trained.begin(), trained.end());
  }
  return out;
}

TrainingSpec adapted_spec(const Rewrite& method, const std::vector<std::pair<std::string_view, double>>& options,
                          const OptimizerStack& optimizer) {
  TrainingSpec spec = tiny_spec(method);
  OptionValues values(method.options);
  for (const auto& [name, value] : options) EXPECT_TRUE(values.set(method.name, name, value));
  nlohmann::ordered_json config;
  spec.rewrites = {*fresh_rewrite(method, {values, {}, ""}, spec.architecture, config)};
  spec.set_optimizer(optimizer);
  const auto added = add_wrappers(spec);
  EXPECT_TRUE(added) << added.error().message;
  return spec;
}

std::map<std::string, std::vector<float>> values_after(const TrainingSpec& spec, int steps, double rate) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  std::map<std::string, std::vector<float>> out;
  run_plan(spec, *plan, steps, rate, [&](Values& values) {
    for (const auto& [name, entry] : plan->layout.entries()) {
      if (entry.role != Role::parameter && entry.role != Role::state) continue;
      std::vector<float>& to = out[name] = std::vector<float>(static_cast<size_t>(entry.type.shape.count()));
      EXPECT_TRUE(values.read(entry, 0, std::as_writable_bytes(std::span(to))));
    }
  });
  return out;
}

void expect_same_bits_at_the_smallest_budget_and_on_disk(TrainingSpec spec, int steps) {
  const auto plenty = plan_training(spec, Machine{});
  ASSERT_TRUE(plenty) << plenty.error().message;
  const Trajectory expected = run_plan(spec, *plenty, steps);
  for (bool disk : {false, true}) {
    spec.budget_bytes = 0;
    spec.disk = disk, spec.disk_least_bytes = 4096;
    spec.budget_bytes = smallest_budget(spec);
    const auto plan = plan_training(spec, Machine{.disk = 1e9});
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_EQ(run_plan(spec, *plan, steps), expected) << "disk " << disk;
  }
}

int64_t smallest_budget(TrainingSpec spec) {
  spec.budget_bytes = 1;
  const auto refused = plan_training(spec, Machine{});
  return refused ? -1 : refused.error().least_bytes;
}

}  // namespace thimble
