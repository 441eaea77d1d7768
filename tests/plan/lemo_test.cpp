// LeMo in training: what blocks make of the rows that stay, what becomes of the others, gradients, memory, and bits.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "models/build.h"
#include "models/norm.h"
#include "ops/backward.h"
#include "ops/fewer_rows.h"
#include "ops/reference_graph.h"
#include "ops/table.h"
#include "plan/selection.h"
#include "plan/taps.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using Numbers = std::vector<double>;

constexpr int64_t kWindow = 12, kLayers = 4;

RewriteSpec lemo(const Architecture& architecture, const std::vector<std::pair<std::string_view, double>>& options) {
  OptionValues values(kLemo.options);
  for (const auto& [name, value] : options) EXPECT_TRUE(values.set("lemo", name, value));
  nlohmann::ordered_json config;
  return *fresh_rewrite(kLemo, {values, {}, ""}, architecture, config);
}

// Predictors that are no more than random numbers.
void set_predictors(RewriteSpec& spec, int64_t blocks) {
  OptionValues& options = spec.modules.begin()->second.options;
  Numbers numbers;
  for (int64_t i = 0; i < blocks * (static_cast<int64_t>(options["features"]) + 1); ++i)
    numbers.push_back(std::round(65536 * double{Random(9, "predictor").normal(static_cast<uint64_t>(i))}));
  EXPECT_TRUE(options.set("lemo", "predictor", numbers));
}

// A tiny Llama with LoRA, and what follows it in the stack, in double.
struct Model {
  Graph graph;
  ReferenceValues values;
  std::vector<std::string> streams;  // names of the residual streams: what blocks read, and at last the head
  Threads threads{1};
  RunContext context{threads, Multiply::f32};

  Model(int64_t rows, std::vector<RewriteSpec> more) {
    const Architecture architecture = tiny_llama(kLayers);
    BuildOptions options{.rows = rows, .positions = kWindow, .activation = &kF32, .differentiable = true};
    options.codec = [](const std::string&, const Shape&) { return &kF32; };
    BuiltModel model = *build_model(graph, architecture, options);
    for (const ValueId stream : model.streams) streams.push_back(graph.value(stream).name);
    graph.value(model.hidden).name = "hidden", graph.value(model.hidden).role = Role::result;
    std::vector<RewriteSpec> stack{rewrite_for_tests(kLora, architecture)};
    stack.insert(stack.end(), more.begin(), more.end());
    PassLog log;
    auto made = rewrite_model(std::move(graph), stack, RewriteUse::train, log, taps_of(model, architecture, options));
    EXPECT_TRUE(made) << made.error().message;
    graph = std::move(made->graph);
    EXPECT_TRUE(graph.verify());
    for (size_t i = 0; i < graph.values().size(); ++i)
      if (const auto id = static_cast<ValueId>(i); graph.producer(id) < 0) begin(id, rows);
  }
  Numbers& at(const std::string& name) { return values.at(graph.find(name)); }
  void run() { run_reference(graph, values, context); }
  void run_block(int block) {
    Graph only = graph;
    for (const Node& node : only.nodes()) {
      if (node.block != block) continue;
      std::vector<ReferenceOperand> in, out;
      for (const ValueId id : node.in)
        in.push_back(id == kNone ? ReferenceOperand{} : ReferenceOperand{&values.at(id), only.value(id).type.shape});
      for (const ValueId id : node.out) {
        if (id != kNone) values[id].assign(static_cast<size_t>(only.value(id).type.shape.count()), 0.0);
        out.push_back(id == kNone ? ReferenceOperand{} : ReferenceOperand{&values[id], only.value(id).type.shape});
      }
      node.op->reference({node.attributes, in, out, context});
    }
  }
  std::vector<const Node*> nodes(const Op& op) const {
    std::vector<const Node*> out;
    for (const Node& node : graph.nodes())
      if (node.op == &op) out.push_back(&node);
    return out;
  }

 private:
  // Windows are one sequence each but for the second, which is two.
  void begin(ValueId id, int64_t rows) {
    const Value& value = graph.value(id);
    Numbers& to = values[id];
    const auto start = [](int64_t row) {
      return row < 17 ? row / kWindow * kWindow : std::max<int64_t>(17, row / kWindow * kWindow);
    };
    for (int64_t i = 0; i < value.type.shape.count(); ++i) {
      const Random random(4, value.name);
      const double number = double{random.normal(static_cast<uint64_t>(i))};
      to.push_back(value.name == "ids"           ? static_cast<double>(random.below(static_cast<uint64_t>(i), 160))
                   : value.name == "starts"      ? static_cast<double>(start(i))
                   : value.name == "positions"   ? static_cast<double>(i - start(i))
                   : value.type.shape.rank() > 1 ? 0.2 * number
                                                 : 1 + 0.1 * number);
    }
    EXPECT_TRUE(value.role != Role::input || value.type.shape[0] == rows || value.type.shape.count() == 1);
    if (value.initial.kind != Initial::Kind::table) return;
    std::vector<float> table(to.size());
    (*value.initial.fill)(0, value.type.shape.count(), table.data());
    to.assign(table.begin(), table.end());
  }
};

RewriteSpec half(int64_t from = 1) {
  RewriteSpec spec = lemo(tiny_llama(kLayers), {{"keep", 0.5}, {"first", 0.25 * static_cast<double>(from)}});
  set_predictors(spec, kLayers - 1 - from);
  return spec;
}

void expect_near(const Numbers& found, const Numbers& expected, double bound) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i)
    ASSERT_NEAR(found[i], expected[i], bound * (1 + std::abs(expected[i]))) << i;
}

// A block makes of the rows that stay what it would if there were no others, and leaves the others as they are.
TEST(Lemo, blocks_work_on_the_rows_that_stay) {
  constexpr int64_t kRows = 2 * kWindow, kStay = kRows / 2, kWidth = 64;
  Model some(kRows, {half()}), plain(kStay, {});
  some.run();
  const auto puts = some.nodes(kPutRows);
  ASSERT_EQ(puts.size(), 2U) << "blocks 1 and 2";
  std::vector<Numbers> chosen;
  for (size_t i = 0; i < puts.size(); ++i) {
    SCOPED_TRACE(i);
    const Numbers &x = some.values.at(puts[i]->in[0]), &y = some.values.at(puts[i]->in[1]),
                  &rows = some.values.at(puts[i]->in[2]), &out = some.values.at(puts[i]->out[0]);
    ASSERT_EQ(rows.size(), static_cast<size_t>(kStay));
    EXPECT_EQ(std::ranges::count_if(rows, [](double row) { return row < kWindow; }), kStay / 2);
    Numbers taken, expected = x;
    for (size_t k = 0; k < rows.size(); ++k) {
      const auto from = static_cast<int64_t>(rows[k]) * kWidth;
      taken.insert(taken.end(), x.begin() + from, x.begin() + from + kWidth);
      std::copy_n(y.begin() + static_cast<std::ptrdiff_t>(k) * kWidth, kWidth, expected.begin() + from);
      const double start = some.at("starts")[static_cast<size_t>(rows[k])];
      plain.at("positions")[k] = some.at("positions")[static_cast<size_t>(rows[k])];
      plain.at("starts")[k] = static_cast<double>(std::ranges::lower_bound(rows, start) - rows.begin());
    }
    EXPECT_EQ(out, expected);
    const int block = static_cast<int>(i) + 1;
    plain.values[plain.graph.find(plain.streams[static_cast<size_t>(block)])] = taken;
    plain.run_block(block);
    expect_near(y, plain.at(plain.streams[static_cast<size_t>(block) + 1]), 1e-12);
    chosen.push_back(rows);
  }
  EXPECT_NE(chosen[0], chosen[1]) << "each block has its own";
}

TEST(Lemo, gradients_are_those_of_the_loss) {
  Model model(2 * kWindow, {half()});
  const Graph forward = model.graph;
  const std::vector<ValueId> wanted = parameters_of(model.graph);
  const ValueId hidden = model.graph.find("hidden");
  const ValueId seed = model.graph.add_value("seed", model.graph.value(hidden).type, Role::input);
  for (int64_t i = 0; i < model.graph.value(hidden).type.shape.count(); ++i)
    model.values[seed].push_back(double{Random(8, "seed").normal(static_cast<uint64_t>(i))});
  Backward backward(model.graph, wanted);
  backward.add(hidden, seed);
  ASSERT_TRUE(backward.run({}));
  ReferenceValues all = model.values;
  for (const auto& leaf : backward.leaves()) all[leaf.first].assign(model.values.at(leaf.parameter).size(), 0.0);
  run_reference(model.graph, all, model.context);
  const auto loss = [&](const ReferenceValues& at) {
    ReferenceValues now = at;
    run_reference(forward, now, model.context);
    return std::inner_product(now.at(hidden).begin(), now.at(hidden).end(), model.values.at(seed).begin(), 0.0);
  };
  constexpr double kStep = 1e-5;
  int looked = 0;
  for (const auto& leaf : backward.leaves()) {
    const std::string& name = model.graph.value(leaf.parameter).name;
    if (!name.ends_with("q_proj.lora_B.weight") && !name.ends_with("down_proj.lora_A.weight")) continue;
    for (const size_t i : {size_t{3}, size_t{77}}) {
      ReferenceValues up = model.values, down = model.values;
      up[leaf.parameter][i] += kStep, down[leaf.parameter][i] -= kStep;
      const double expected = (loss(up) - loss(down)) / (2 * kStep);
      EXPECT_NEAR(all.at(leaf.last)[i], expected, 1e-5 * (1 + std::abs(expected))) << name << " " << i;
      ++looked;
    }
  }
  EXPECT_EQ(looked, 2 * 2 * kLayers);
}

// What predictors are fitted to, once more: by how much attention a token has of those behind it.
TEST(Lemo, measures_how_much_attention_tokens_have) {
  constexpr int64_t kRows = 2 * kWindow, kFeatures = 8;
  RewriteSpec probing = lemo(tiny_llama(kLayers), {{"features", kFeatures}, {"first", 0.25}});
  probing.modules.begin()->second.probed = true;
  Model model(kRows, {probing});
  model.run();
  for (const int block : {1, 2}) {
    SCOPED_TRACE(block);
    const auto attentions = model.nodes(kAttention);
    const auto found = std::ranges::find_if(attentions, [&](const Node* node) { return node->block == block; });
    ASSERT_NE(found, attentions.end());
    const auto& a = (*found)->as<AttentionAttributes>();
    const Numbers &q = model.values.at((*found)->in[0]), &k = model.values.at((*found)->in[1]),
                  &starts = model.at("starts");
    Numbers attention(kRows, 0), queries(kRows, 0);
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t h = 0; h < a.heads; ++h) {
        const auto first = static_cast<int64_t>(starts[static_cast<size_t>(i)]);
        Numbers p;
        for (int64_t j = first; j <= i; ++j) {
          double product = 0;
          for (int64_t d = 0; d < a.head_dim; ++d)
            product += q[static_cast<size_t>((i * a.heads + h) * a.head_dim + d)] *
                       k[static_cast<size_t>((j * a.kv_heads + h * a.kv_heads / a.heads) * a.head_dim + d)];
          p.push_back(std::exp(double{a.scale} * product));
        }
        const double all = std::accumulate(p.begin(), p.end(), 0.0);
        for (int64_t j = first; j <= i; ++j) {
          attention[static_cast<size_t>(j)] +=
              p[static_cast<size_t>(j - first)] / all * static_cast<double>(i - first + 1);
          queries[static_cast<size_t>(j)] += 1.0 / static_cast<double>(a.heads);
        }
      }
    Numbers y;
    for (size_t j = 0; j < attention.size(); ++j)
      y.push_back(std::log(attention[j] / static_cast<double>(a.heads) / queries[j]));
    expect_near(model.at(fmt::format("lemo.{}.y", block)), y, 1e-6);
    const Numbers& z = model.at(fmt::format("lemo.{}.features", block));
    EXPECT_TRUE(std::ranges::all_of(z, [](double x) { return x >= 0; }));
    const Numbers& moments = model.at(fmt::format("lemo.{}.moments", block));
    const int64_t n = kFeatures + 2, columns = n * (n + 1) / 2;
    for (int64_t row = 0; row < kRows; ++row) {
      const auto r = static_cast<size_t>(row);
      Numbers f(z.begin() + row * kFeatures, z.begin() + (row + 1) * kFeatures);
      f.insert(f.end(), {1, y[r]});
      int64_t at = row * columns;
      for (size_t i = 0; i < f.size(); ++i)
        for (size_t j = i; j < f.size(); ++j)
          ASSERT_NEAR(moments[static_cast<size_t>(at++)], f[i] * f[j] * (1 - 1 / queries[r]), 1e-5) << row;
    }
  }
}

TrainingSpec spec_of(const std::vector<std::pair<std::string_view, double>>& options, int64_t predictors) {
  TrainingSpec spec = tiny_spec(kLora);
  spec.rewrites.push_back(lemo(spec.architecture, options));
  if (predictors > 0) set_predictors(spec.rewrites.back(), predictors);
  return spec;
}

TEST(Lemo, is_probed_by_a_pass_without_a_step) {
  const TrainingSpec spec = spec_of({{"first", 0.25}, {"features", 8}}, 0), probing = probing_spec(spec, 1);
  const auto plan = plan_training(probing, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->train.parameters.size(), 2U) << "blocks 1 and 2";
  for (const TrainedParameter& parameter : plan->train.parameters) {
    EXPECT_THAT(parameter.name, testing::EndsWith(kProbe));
    EXPECT_EQ(parameter.shape, (Shape{1, 55}));
    EXPECT_NE(plan->layout.find(score_name(parameter.name)), nullptr);
  }
}

// Batches of eight windows go in two passes of 512 rows, with dropout that is drawn by row.
TEST(Lemo, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of({{"first", 0.25}, {"keep", 0.6}}, 2);
  for (auto& [name, module] : spec.rewrites.front().modules) EXPECT_TRUE(module.options.set("", "dropout", 0.1));
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  EXPECT_EQ(plan->rows, 512);
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
  const auto other = plan_training(spec_of({{"first", 0.25}, {"keep", 0.6}}, 0), Machine{});
  ASSERT_TRUE(other);
  EXPECT_NE(other->numerics_hash, plan->numerics_hash) << "predictors are part of the numerics";
}

TEST(Lemo, goes_with_keepers_and_quantised_activations) {
  for (const char* keeper : {"q8_0", "mesa", "wta_crs"}) {
    SCOPED_TRACE(keeper);
    TrainingSpec spec = spec_of({{"first", 0.25}}, 2);
    spec.keepers = *keepers_named(keeper);
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    for (const double loss : run_plan(spec, *plan, 2).losses) EXPECT_TRUE(std::isfinite(loss));
  }
}

TEST(Lemo, leaves_nothing_out_where_everything_is_kept) {
  const TrainingSpec all = spec_of({{"keep", 1}}, 2), plain = tiny_spec(kLora);
  const auto plan = plan_training(all, Machine{}), expected = plan_training(plain, Machine{});
  ASSERT_TRUE(plan && expected) << plan.error().message;
  EXPECT_EQ(plan->numerics_hash, expected->numerics_hash);
  EXPECT_EQ(run_plan(all, *plan, 3), run_plan(plain, *expected, 3));
}

TEST(Lemo, is_for_training_programs_alone) {
  TrainingSpec spec = spec_of({{"first", 0.25}}, 2);
  spec.evaluates = true;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto chooses = [](const Graph& graph) {
    return std::ranges::count_if(graph.nodes(), [](const Node& node) { return node.op == &kChooseRows; });
  };
  EXPECT_EQ(chooses(plan->train.graph), 2);
  ASSERT_EQ(plan->programs.size(), 1U);
  EXPECT_EQ(chooses(plan->programs.front().graph), 0);
}

// The bytes of SmolLM2-135M's shape, one window of 1024 tokens.
TrainingSpec large_spec(double keep) {
  TrainingSpec spec = tiny_spec(kLora);
  spec.architecture = smollm2_shape();
  spec.rewrites = {rewrite_for_tests(kLora, spec.architecture)};
  if (keep < 1) spec.rewrites.push_back(lemo(spec.architecture, {{"keep", keep}, {"first", 0.07}, {"last", 0}}));
  spec.batch = 1, spec.context = 1024;
  return spec;
}

double kept_bytes(const TrainingSpec& spec) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_TRUE(plan) << plan.error().message;
  return plan ? static_cast<double>(ledger_bytes(*plan, "kept activations")) : 0;
}

TEST(Lemo, keeps_activations_of_the_rows_that_stay) {
  const double whole = kept_bytes(large_spec(1));
  EXPECT_LE(kept_bytes(large_spec(0.6)), 0.7 * whole);
  EXPECT_LE(kept_bytes(large_spec(0.4)), 0.5 * whole);  // the first two blocks and the last one keep theirs
}

std::string refusal(const TrainingSpec& spec) {
  const auto plan = plan_training(spec, Machine{});
  EXPECT_FALSE(plan);
  return plan ? "" : plan.error().message;
}

TEST(Lemo, says_what_it_is_not_for) {
  EXPECT_THAT(refusal(spec_of({{"first", 0.75}}, 0)), HasSubstr("lemo.first=0.75"));
  EXPECT_THAT(refusal(spec_of({{"first", 0.25}, {"last", 0.75}}, 0)), HasSubstr("lemo.last=0.75"));
  EXPECT_THAT(refusal(spec_of({{"first", 0.25}}, 1)), HasSubstr("found 65"));
  TrainingSpec spec = spec_of({}, 0);
  std::swap(spec.rewrites[0], spec.rewrites[1]);
  EXPECT_THAT(refusal(spec), HasSubstr("give lemo last"));
  spec = spec_of({}, 0);
  spec.architecture.blocks[1].attention.window = 16;
  EXPECT_THAT(refusal(spec), HasSubstr("sliding windows"));
  spec = spec_of({}, 0);
  spec.rewrites.insert(spec.rewrites.begin() + 1, rewrite_for_tests(kMixlora, spec.architecture));
  spec.rewrites.erase(spec.rewrites.begin());
  EXPECT_THAT(refusal(spec), HasSubstr("losses of tokens in blocks"));
}

}  // namespace
}  // namespace thimble
