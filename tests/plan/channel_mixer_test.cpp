// FFNs of every kind: what their equations say, their gradients, experts of each, and training at every budget.
#include "models/channel_mixer.h"

#include <cmath>
#include <numeric>

#include "core/random.h"
#include "models/router.h"
#include "ops/backward.h"
#include "ops/reference_graph.h"
#include "ops/table.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

constexpr int64_t kWidth = 4, kRows = 3;

// A channel mixer and its down_proj in a graph, with weights that were drawn.
struct Made {
  explicit Made(const ChannelMixer& mixer) {
    set_channel_mixer(ffn, mixer, 2);
    x = add("x", {kRows, kWidth});
    for (const ChannelMixer::Module& m : mixer.modules(ffn, kWidth)) add_module(std::string(m.name), m.out, m.in);
    add_module("down_proj", kWidth, mixer.columns(ffn));
    const auto linear = [&](ValueId in, const std::string& module) {
      return g.emit(kLinear, LinearAttributes{.codec = &kF32}, {in, g.find(module), kNone, kNone}, module + ".y");
    };
    const ChannelMixerContext context{.graph = g, .ffn = ffn, .name = "mlp.", .x = x, .linear = linear};
    y = linear(mixer.mix(context), "down_proj");
  }
  ValueId add(const std::string& name, const Shape& shape) {
    const Random random(7, name);
    std::vector<double>& numbers = values[g.add_value(name, {shape}, Role::parameter)];
    for (int64_t i = 0; i < shape.count(); ++i) numbers.push_back(random.normal(static_cast<uint64_t>(i)));
    return g.find(name);
  }
  void add_module(const std::string& name, int64_t out, int64_t in) { wanted.push_back(add(name, {out, in})); }

  // rows of `in` times the matrix of a module.
  std::vector<double> times(const std::vector<double>& in, const std::string& module) {
    const std::vector<double>& w = values.at(g.find(module));
    const size_t n = in.size() / kRows, m = w.size() / n;
    std::vector<double> out(kRows * m);
    for (size_t r = 0; r < kRows; ++r)
      for (size_t o = 0; o < m; ++o) out[r * m + o] = std::inner_product(&in[r * n], &in[r * n] + n, &w[o * n], 0.0);
    return out;
  }

  FeedForward ffn{.width = 5};
  Graph g;
  ReferenceValues values;
  std::vector<ValueId> wanted;
  ValueId x = kNone, y = kNone;
};

double silu(double v) { return v / (1 + std::exp(-v)); }

// The row's equation, once more.
std::vector<double> expected(Made& made) {
  const std::vector<double>& x = made.values.at(made.x);
  const bool factored = made.ffn.mixer->factored, gated = made.ffn.mixer != &kPlainFfn;
  const auto product = [&](const std::vector<double>& in, const std::string& module) {
    return made.times(factored ? made.times(in, module + "_in") : in, module);
  };
  std::vector<double> up = product(x, "up_proj");
  if (gated) {
    const std::vector<double> gate = product(x, "gate_proj");
    for (size_t i = 0; i < up.size(); ++i) up[i] *= silu(gate[i]);
  } else {
    for (double& v : up) v = silu(v);
  }
  return product(up, "down_proj");
}

class EveryChannelMixer : public ::testing::TestWithParam<const ChannelMixer*> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryChannelMixer, ::testing::ValuesIn(channel_mixers()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(EveryChannelMixer, makes_what_its_equation_says) {
  Made made(*GetParam());
  Threads threads(1);
  RunContext run{threads, Multiply::f32};
  ReferenceValues all = made.values;
  run_reference(made.g, all, run);
  const std::vector<double> wanted = expected(made), found = all.at(made.y);
  ASSERT_EQ(found.size(), wanted.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], wanted[i], 1e-9);
}

TEST_P(EveryChannelMixer, has_the_gradient_of_what_it_makes) {
  Made made(*GetParam());
  const Graph forward = made.g;
  Backward backward(made.g, made.wanted);
  const ValueId seed = made.g.add_value("seed", made.g.value(made.y).type, Role::input);
  backward.add(made.y, seed);
  const auto ran = backward.run({});
  ASSERT_TRUE(ran) << ran.error().message;
  for (size_t i = 0; i < kRows * kWidth; ++i) made.values[seed].push_back(0.25 * static_cast<double>(i) - 1);
  Threads threads(1);
  RunContext run{threads, Multiply::f32};
  const auto loss = [&](const ReferenceValues& at) {
    ReferenceValues all = at;
    run_reference(forward, all, run);
    return std::inner_product(all.at(made.y).begin(), all.at(made.y).end(), made.values[seed].begin(), 0.0);
  };
  ReferenceValues all = made.values;
  for (const Backward::LeafGradient& leaf : backward.leaves())
    all[leaf.first].assign(made.values.at(leaf.parameter).size(), 0.0);
  run_reference(made.g, all, run);
  ASSERT_EQ(backward.leaves().size(), made.wanted.size());
  for (const Backward::LeafGradient& leaf : backward.leaves())
    for (size_t i = 0; i < made.values.at(leaf.parameter).size(); ++i) {
      ReferenceValues moved = made.values;
      constexpr double kStep = 1e-5;
      moved[leaf.parameter][i] += kStep;
      const double above = loss(moved);
      moved[leaf.parameter][i] -= 2 * kStep;
      EXPECT_NEAR(all.at(leaf.last)[i], (above - loss(moved)) / (2 * kStep), 1e-6)
          << forward.value(leaf.parameter).name << " " << i;
    }
}

TrainingSpec spec_with(const ChannelMixer& mixer, const Rewrite& method = kFull) {
  TrainingSpec spec = tiny_spec(method);
  spec.architecture.blocks.resize(2);
  for (Block& block : spec.architecture.blocks) set_channel_mixer(block.ffn, mixer, 32);
  return spec;
}

TEST_P(EveryChannelMixer, trains_the_same_bits_at_every_budget) {
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec_with(*GetParam()), 3);
}

TEST_P(EveryChannelMixer, makes_experts_too) {
  TrainingSpec spec = spec_with(*GetParam());
  for (Block& block : spec.architecture.blocks) block.ffn.routing = {&kTopKRouter, 3, 2, 0, 0.01};
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const Trajectory ran = run_plan(spec, *plan, 3);
  for (const double loss : ran.losses) ASSERT_TRUE(std::isfinite(loss));
  EXPECT_NE(ran.losses.back(), ran.losses.front()) << "nothing was trained";
}

// Every method that finds something to train in a Llama does so here, or says why not.
TEST_P(EveryChannelMixer, takes_every_method) {
  for (const Rewrite* method : methods_for_tests()) {
    SCOPED_TRACE(method->name);
    TrainingSpec spec = spec_with(*GetParam());
    spec.rewrites = {rewrite_for_tests(*method, spec.architecture)};
    const auto plan = plan_training(spec, Machine{});
    if (!plan) {
      EXPECT_TRUE(GetParam()->factored) << plan.error().message;
      EXPECT_NE(plan.error().message, "");
      continue;
    }
    for (const double loss : run_plan(spec, *plan, 2).losses) EXPECT_TRUE(std::isfinite(loss));
  }
}

// A product of factors begins with the deviation of the matrix that it stands for.
TEST(ChannelMixer, factors_begin_as_large_as_their_matrix) {
  const auto deviation = [](const ChannelMixer& mixer, const std::string& module) {
    for (const TensorSpec& tensor : tensor_specs(spec_with(mixer).architecture))
      if (tensor.name == "model.layers.1.mlp." + module + ".weight") return tensor.initial.number;
    return 0.0f;
  };
  for (const char* module : {"gate_proj", "up_proj", "down_proj"})
    EXPECT_FLOAT_EQ(
        deviation(kLowRankFfn, module) * deviation(kLowRankFfn, std::string(module) + "_in") * std::sqrt(32.0f),
        deviation(kGatedFfn, module))
        << module;
}

}  // namespace
}  // namespace thimble
