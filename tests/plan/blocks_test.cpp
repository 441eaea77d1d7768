// Models whose tokens go to experts, and models of other mixers and norms than Llama's: the same bits at every budget,
// the FLOPs of what is computed, and a loss that keeps experts in use.
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "models/mixer.h"
#include "models/norm.h"
#include "models/routed_ffn.h"
#include "ops/backward.h"
#include "ops/experts.h"
#include "ops/reference_graph.h"
#include "ops/table.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec routed_spec(const Router& router, int64_t experts = 4) {
  TrainingSpec spec = tiny_spec();
  spec.architecture.blocks.resize(2);
  for (Block& block : spec.architecture.blocks)
    block.ffn.routing = {&router, experts, router.chosen, router.capacity, router.balance};
  return spec;
}

class EveryRouter : public ::testing::TestWithParam<const Router*> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryRouter, ::testing::ValuesIn(routers()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(EveryRouter, trains_the_same_bits_at_every_budget) {
  TrainingSpec spec = routed_spec(*GetParam());
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const Trajectory expected = run_plan(spec, *plan, 3);
  for (const double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
  EXPECT_NE(expected.losses[2], expected.losses[0]) << "nothing was trained";
  spec.threads = 2;  // each takes workspace
  const int64_t least = smallest_budget(spec);
  ASSERT_LT(least, plan->arena_bytes);
  for (const int threads : {1, 2}) {
    spec.threads = threads;
    spec.budget_bytes = least;
    const auto tight = plan_training(spec, Machine{});
    ASSERT_TRUE(tight) << tight.error().message;
    EXPECT_LT(tight->rows, plan->rows) << "the budget forces no smaller pass";
    EXPECT_EQ(tight->numerics_hash, plan->numerics_hash);
    EXPECT_EQ(run_plan(spec, *tight, 3), expected) << threads << " threads";
  }
}

// What adds to keys and values needs an attention that has some.
TEST(EveryMixer, has_attention_or_refuses_what_is_for_it) {
  for (const Mixer* mixer : mixers()) {
    TrainingSpec spec = tiny_spec(kPrefixTuning);
    for (Block& block : spec.architecture.blocks)
      if (mixer->mix) set_mixer(block, *mixer);
    const auto plan = plan_training(spec, Machine{});
    EXPECT_EQ(bool(plan), mixer->mix == nullptr) << mixer->name;
    if (!plan)
      EXPECT_EQ(plan.error().message,
                "--method prefix_tuning: it adds to the keys and values of attention, and no block of this model has "
                "attention");
  }
}

// So do recurrent mixers, beside blocks of windows; documents begin anew within a pass.
TEST(EveryMixer, trains_the_same_bits_at_every_budget) {
  for (const Mixer* mixer : mixers()) {
    if (!mixer->mix) continue;
    SCOPED_TRACE(mixer->name);
    TrainingSpec spec = tiny_spec();
    spec.architecture.blocks.resize(2);
    for (size_t i = 0; i < spec.architecture.blocks.size(); i += 2) set_mixer(spec.architecture.blocks[i], *mixer);
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    const Trajectory expected = run_plan(spec, *plan, 3);
    for (const double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
    EXPECT_NE(expected.losses[2], expected.losses[0]) << "nothing was trained";
    spec.threads = 1;
    spec.budget_bytes = smallest_budget(spec);
    const auto tight = plan_training(spec, Machine{});
    ASSERT_TRUE(tight) << tight.error().message;
    EXPECT_LT(tight->rows, plan->rows);
    EXPECT_EQ(tight->numerics_hash, plan->numerics_hash);
    EXPECT_EQ(run_plan(spec, *tight, 3), expected);
  }
}

class EveryNorm : public ::testing::TestWithParam<const NormKind*> {};
INSTANTIATE_TEST_SUITE_P(Table, EveryNorm, ::testing::ValuesIn(norms()),
                         [](const auto& info) { return std::string(info.param->name); });

TrainingSpec normed_spec(const NormKind& kind) {
  TrainingSpec spec = tiny_spec();
  spec.architecture.blocks.resize(2);
  spec.architecture.final_norm = new_norm(kind);
  for (Block& block : spec.architecture.blocks) block.before_mixer = block.before_ffn = new_norm(kind);
  return spec;
}

TEST_P(EveryNorm, trains_the_same_bits_at_every_budget) {
  expect_same_bits_at_the_smallest_budget_and_on_disk(normed_spec(*GetParam()), 3);
}

// All of what a norm has trains: gains, biases and scalars.
TEST_P(EveryNorm, trains_what_it_has) {
  const TrainingSpec spec = normed_spec(*GetParam());
  const auto before = values_after(spec, 0), after = values_after(spec, 2);
  std::vector<std::string> tensors = {"weight"};
  if (GetParam()->biased) tensors.emplace_back("bias");
  for (const NormScalar& own : GetParam()->scalars) tensors.emplace_back(own.name);
  for (const char* place :
       {"model.layers.1.input_layernorm.", "model.layers.0.post_attention_layernorm.", "model.norm."})
    for (const std::string& tensor : tensors) {
      ASSERT_TRUE(after.contains(place + tensor)) << place << tensor;
      EXPECT_NE(before.at(place + tensor), after.at(place + tensor)) << place << tensor;
    }
}

// By the references, in double, of two rows with gains 1, 1.5, 2 and, where there are any, biases 0, 0.1, 0.2.
std::vector<double> normed(const NormKind& kind, const std::vector<double>& x, double scalar) {
  Graph g;
  ReferenceValues values;
  const auto add = [&](const std::string& name, const Shape& shape, const std::vector<double>& numbers) {
    const ValueId id = g.add_value(name, {shape}, Role::weight);
    values[id] = numbers;
    return id;
  };
  const ValueId rows = add("x", {2, 3}, x);
  add("n.weight", {3}, {1, 1.5, 2});
  if (kind.biased) add("n.bias", {3}, {0, 0.1, 0.2});
  for (const NormScalar& own : kind.scalars) add(fmt::format("n.{}", own.name), {1}, {scalar});
  const Norm norm = new_norm(kind);
  const ValueId out = kind.apply(
      {.graph = g, .norm = norm, .codec = &kF32, .name = "n", .x = rows, .weight = [&](const std::string& name) {
         return g.find(name);
       }});
  Threads threads(1);
  RunContext run{threads, Multiply::f32};
  run_reference(g, values, run);
  return values.at(out);
}

TEST(Norms, make_what_their_equations_say) {
  const std::vector<double> x = {0.5, -1, 3, 2, 0, -0.25}, gain = {1, 1.5, 2}, bias = {0, 0.1, 0.2};
  const auto rms = normed(kRms, x, 0), layer = normed(kLayer, x, 0), dyt = normed(kDyt, x, 0.7),
             eln = normed(kEln, x, 3.5);
  for (size_t row = 0; row < 2; ++row) {
    double mean = 0, square = 0;
    for (size_t j = 0; j < 3; ++j) mean += x[3 * row + j] / 3, square += x[3 * row + j] * x[3 * row + j] / 3;
    for (size_t j = 0; j < 3; ++j) {
      const size_t i = 3 * row + j;
      EXPECT_NEAR(rms[i], gain[j] * x[i] / std::sqrt(square + 1e-5), 1e-6);
      EXPECT_NEAR(layer[i], gain[j] * (x[i] - mean) / std::sqrt(square - mean * mean + 1e-5) + bias[j], 1e-6);
      EXPECT_NEAR(dyt[i], gain[j] * std::tanh(0.7 * x[i]) + bias[j], 1e-6);
      EXPECT_NEAR(eln[i], gain[j] * std::sqrt(2) * x[i] / std::sqrt(x[i] * x[i] + 3.5) + bias[j], 1e-6);
    }
  }
}

// Of a weighted sum of what a norm makes, against differences in double.
TEST(Norms, have_the_gradient_of_what_they_make) {
  for (const NormKind* kind : norms()) {
    SCOPED_TRACE(kind->name);
    Graph g;
    ReferenceValues values;
    std::vector<ValueId> wanted;
    const auto add = [&](const std::string& name, const Shape& shape, const std::vector<double>& numbers) {
      wanted.push_back(g.add_value(name, {shape}, Role::parameter));
      values[wanted.back()] = numbers;
    };
    add("x", {2, 3}, {0.5, -1, 3, 2, 0.1, -0.25});
    add("n.weight", {3}, {1, 1.5, 2});
    if (kind->biased) add("n.bias", {3}, {0, 0.1, 0.2});
    for (const NormScalar& own : kind->scalars) add(fmt::format("n.{}", own.name), {1}, {0.7});
    const Norm norm = new_norm(*kind);
    const ValueId made = kind->apply(
        {.graph = g, .norm = norm, .codec = &kF32, .name = "n", .x = wanted[0], .weight = [&](const std::string& name) {
           return g.find(name);
         }});
    const Graph forward = g;
    Backward backward(g, wanted);
    const ValueId seed = g.add_value("seed", g.value(made).type, Role::input);
    backward.add(made, seed);
    const auto ran = backward.run({});
    ASSERT_TRUE(ran) << ran.error().message;
    values[seed] = {1, -2, 0.5, 3, 0.25, -1};
    Threads threads(1);
    RunContext run{threads, Multiply::f32};
    const auto loss = [&](const ReferenceValues& at) {
      ReferenceValues all = at;
      run_reference(forward, all, run);
      return std::inner_product(all.at(made).begin(), all.at(made).end(), values[seed].begin(), 0.0);
    };
    ReferenceValues all = values;
    for (const Backward::LeafGradient& leaf : backward.leaves())
      all[leaf.first].assign(values.at(leaf.parameter).size(), 0.0);
    run_reference(g, all, run);
    for (const Backward::LeafGradient& leaf : backward.leaves())
      for (size_t i = 0; i < values.at(leaf.parameter).size(); ++i) {
        ReferenceValues up = values, down = values;
        up.at(leaf.parameter)[i] += 1e-5, down.at(leaf.parameter)[i] -= 1e-5;
        EXPECT_NEAR(all.at(leaf.last)[i], (loss(up) - loss(down)) / 2e-5, 1e-6) << g.value(leaf.parameter).name;
      }
    EXPECT_EQ(backward.leaves().size(), wanted.size());
  }
}

// ELN is layer normalisation of one number, as the others of its row stay: theirs of mean 0 and variance s^2 make its
// beta n s^2 (Stollenwerk 2025, equation 13).
TEST(Norms, eln_is_layer_normalisation_of_one_number) {
  const std::vector<double> others = {-1.5, 1.5};  // s^2 = 2.25
  for (const double x : {-4.0, -0.3, 0.0, 0.8, 20.0}) {
    const auto layer = normed(kLayer, {x, others[0], others[1], x, others[0], others[1]}, 0);
    const auto eln = normed(kEln, {x, 0, 0, x, 0, 0}, 3 * 2.25);
    EXPECT_NEAR(layer[0], eln[0], 1e-5) << x;
  }
}

// Products of a forward pass.
double forward_flops(const TrainingSpec& spec) {
  const auto train = build_training(spec, spec.batch * spec.context, true);
  EXPECT_TRUE(train) << train.error().message;
  double sum = 0;
  for (const Node& node : train->graph.nodes()) {
    if (node.phase != Phase::forward) continue;
    const Cost cost = node.op->cost(node.attributes, train->graph.types(node.in), train->graph.types(node.out));
    sum += std::accumulate(cost.flops.begin(), cost.flops.end(), 0.0);
  }
  return sum;
}

TEST_P(EveryRouter, computes_what_the_chosen_experts_are) {
  const Router& router = *GetParam();
  TrainingSpec dense = tiny_spec();
  dense.architecture.blocks.resize(2);
  const Architecture& a = dense.architecture;
  const auto tokens = static_cast<double>(dense.batch * dense.context);
  for (const int64_t experts : {4, 16}) {
    const double ffn = 3 * 2 * tokens * static_cast<double>(a.width * a.blocks[0].ffn.width);
    const double routing = router.learnt ? 2 * tokens * static_cast<double>(experts * a.width) : 0;
    const double more = static_cast<double>(router.chosen - 1) * ffn + routing;
    EXPECT_DOUBLE_EQ(forward_flops(routed_spec(router, experts)),
                     forward_flops(dense) + static_cast<double>(a.layers()) * more);
  }
}

// One FFN by hand in double: what the graph computes of a token is the sum over its experts.
TEST_P(EveryRouter, sums_what_experts_make_of_a_token) {
  const Router& router = *GetParam();
  Architecture a = tiny_llama();
  a.width = 8, a.blocks.resize(1), a.blocks[0].ffn.width = 6;
  a.blocks[0].ffn.routing = {&router, 3, router.chosen, 0, 0};
  Graph graph;
  std::map<std::string, ValueId> weights;
  ReferenceValues values;
  const Random random(7, "experts");
  uint64_t drawn = 0;
  const auto draw = [&](int64_t count) {
    std::vector<double> numbers;
    for (int64_t i = 0; i < count; ++i) numbers.push_back(random.normal(drawn++));
    return numbers;
  };
  for (const TensorSpec& spec : tensor_specs(a)) {
    if (spec.name.find(".mlp.") == std::string::npos) continue;
    weights[spec.name] = graph.add_value(spec.name, {spec.shape}, Role::weight);
    values[weights[spec.name]] = draw(spec.shape.count());
  }
  constexpr int64_t kTokens = 5;
  const ValueId x = graph.add_value("x", {{kTokens, a.width}, &kF32, Extent::tokens}, Role::input);
  const ValueId ids = graph.add_value("ids", {{kTokens}, &kI32, Extent::tokens}, Role::input);
  values[x] = draw(kTokens * a.width), values[ids] = {3, 1, 4, 1, 5};
  const Routing& routing = a.blocks[0].ffn.routing;
  const RouterContext context{.graph = graph,
                              .routing = routing,
                              .name = "model.layers.0.mlp.",
                              .x = x,
                              .ids = ids,
                              .vocab = a.vocab,
                              .weight = [&](const std::string& name) { return weights.at(name); }};
  const RoutedFfn ffn = add_routed_ffn(context, a.blocks[0].ffn, x);
  for (size_t i = 0; i < graph.values().size(); ++i) {
    const Value& value = graph.values()[i];
    if (value.role != Role::constant) continue;
    std::vector<float> table(static_cast<size_t>(value.type.shape.count()));
    (*value.initial.fill)(0, value.type.shape.count(), table.data());
    values[static_cast<ValueId>(i)].assign(table.begin(), table.end());
  }
  Threads threads(1);
  RunContext run{threads, Multiply::f32};
  run_reference(graph, values, run);
  const auto& gates = values.at(graph.find("model.layers.0.mlp.gates"));
  const auto product = [&](int64_t expert, const char* name, const std::vector<double>& of, int64_t out) {
    const auto& w = values.at(weights.at(fmt::format("model.layers.0.mlp.experts.{}.{}.weight", expert, name)));
    std::vector<double> y(static_cast<size_t>(out), 0);
    for (size_t j = 0; j < y.size(); ++j)
      for (size_t k = 0; k < of.size(); ++k) y[j] += w[j * of.size() + k] * of[k];
    return y;
  };
  for (int64_t t = 0; t < kTokens; ++t) {
    const std::vector<double> own(values[x].begin() + t * a.width, values[x].begin() + (t + 1) * a.width);
    std::vector<double> expected = own;
    int64_t used = 0;
    for (int64_t e = 0; e < routing.experts; ++e) {
      const double gate = gates[static_cast<size_t>(t * routing.experts + e)];
      if (gate == 0) continue;
      ++used;
      std::vector<double> act = product(e, "gate_proj", own, 6);
      const std::vector<double> up = product(e, "up_proj", own, 6);
      for (size_t k = 0; k < act.size(); ++k) act[k] = act[k] / (1 + std::exp(-act[k])) * up[k];
      const std::vector<double> down = product(e, "down_proj", act, a.width);
      for (size_t k = 0; k < down.size(); ++k) expected[k] += gate * down[k];
    }
    EXPECT_EQ(used, routing.chosen);
    for (int64_t k = 0; k < a.width; ++k)
      EXPECT_NEAR(values.at(ffn.sum)[static_cast<size_t>(t * a.width + k)], expected[static_cast<size_t>(k)], 1e-9);
  }
}

// The second loss: its gradient reaches routers, and it is smallest, `balance`, where experts are used evenly.
TEST(Balance, is_a_loss_beside_the_objective) {
  TrainingSpec spec = routed_spec(kSwitchRouter);
  const auto with = plan_training(spec, Machine{});
  for (Block& block : spec.architecture.blocks) block.ffn.routing.balance = 0;
  const auto without = plan_training(spec, Machine{});
  ASSERT_TRUE(with && without);
  EXPECT_TRUE(with->layout.find("train.balance"));
  EXPECT_FALSE(without->layout.find("train.balance"));
  EXPECT_NE(run_plan(routed_spec(kSwitchRouter), *with, 2), run_plan(spec, *without, 2));
}

TEST(Balance, is_least_where_experts_are_used_evenly) {
  const auto loss = [](const std::vector<double>& probabilities) {
    Graph graph;
    const Routing routing{&kSwitchRouter, 2, 1, 0, 0.01};
    const ValueId p = graph.add_value("p", {{4, 2}, &kF32, Extent::tokens}, Role::input);
    const RouterContext context{.graph = graph, .routing = routing, .name = "", .trains = true, .weight = {}};
    const ValueId rows = balance_loss(context, p);
    ReferenceValues values{{p, probabilities}};
    Threads threads(1);
    RunContext run{threads, Multiply::f32};
    run_reference(graph, values, run);
    return (values[rows][0] + values[rows][1] + values[rows][2] + values[rows][3]) / 4;
  };
  EXPECT_DOUBLE_EQ(loss({0.9, 0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9}), 0.01);
  EXPECT_DOUBLE_EQ(loss({0.9, 0.1, 0.9, 0.1, 0.9, 0.1, 0.9, 0.1}), 0.01 * 2 * 0.9);
}

}  // namespace
}  // namespace thimble
