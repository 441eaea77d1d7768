// MixLoRA: the equation once more, an FFN for every expert; layers that are not behind an activation have LoRA.
#include <algorithm>
#include <cmath>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 6, kWidth = 8, kInner = 10, kRank = 2, kExperts = 3;
const std::string kMlp = "model.layers.0.mlp.";

struct Ffn {
  Graph graph;
  ReferenceValues values;

  explicit Ffn(double chosen, const Rewrite& technique = kMixlora) {
    AdaptedModule module;
    module.name = module.owner = kMlp + "down_proj";
    module.whole = kWidth;
    module.options = OptionValues(technique.options);
    for (const auto& [name, value] :
         {std::pair{"rank", double{kRank}}, {"alpha", 6.0}, {"experts", double{kExperts}}, {"chosen", chosen}})
      if (module.options.has(name)) EXPECT_TRUE(module.options.set("test", name, value));
    Graph plain;
    const ValueId x = plain.add_value("x", {{kRows, kWidth}, &kF32, Extent::tokens}, Role::input);
    const auto linear = [&](ValueId of, const std::string& name, int64_t out) {
      const int64_t in = plain.value(of).type.shape[1];
      const ValueId w = plain.add_value(kMlp + name + ".weight", {{out, in}}, Role::weight);
      return plain.emit(kLinear, LinearAttributes{}, {of, w, kNone, kNone}, kMlp + name);
    };
    const ValueId gate = linear(x, "gate_proj", kInner), up = linear(x, "up_proj", kInner);
    const ValueId active = plain.emit(kActivation, ActivationAttributes{}, {gate, up}, kMlp + "act");
    plain.value(linear(active, "down_proj", kWidth)).role = Role::result;
    RewriteSpec spec{.rewrite = &technique};
    spec.modules[module.name] = module;
    PassLog log;
    auto made = rewrite_model(std::move(plain), {{spec}}, RewriteUse::infer, log);
    EXPECT_TRUE(made) << made.error().message;
    graph = std::move(made->graph);
    for (size_t i = 0; i < graph.values().size(); ++i) {
      const auto id = static_cast<ValueId>(i);
      if (graph.producer(id) >= 0) continue;
      const Value& value = graph.values()[i];
      for (int64_t k = 0; k < value.type.shape.count(); ++k)
        values[id].push_back(0.5 * Random(3, value.name).normal(static_cast<uint64_t>(k)));
    }
    Threads threads(1);
    RunContext context{threads, Multiply::f32, 0, 0, 0};
    run_reference(graph, values, context);
  }
  const std::vector<double>& at(const std::string& name) const { return values.at(graph.find(name)); }
  const std::vector<double>& of(int64_t expert, const std::string& factor) const {
    return at(fmt::format("{}down_proj.experts.{}.{}", kMlp, expert, factor));
  }

  // What an expert's layer makes of x [k] (a row): base + s B A x.
  std::vector<double> layer(const std::vector<double>& x, const std::string& base, int64_t expert,
                            const std::string& name) const {
    const auto& w = at(kMlp + base + ".weight");
    const auto k = static_cast<int64_t>(x.size()), n = static_cast<int64_t>(w.size()) / k;
    std::vector<double> y;
    for (int64_t i = 0; i < n; ++i) {
      y.push_back(dot(x, w, 0, i, k));
      for (int64_t r = 0; r < kRank; ++r)
        y.back() +=
            3 * dot(x, of(expert, name + "_A"), 0, r, k) * of(expert, name + "_B")[static_cast<size_t>(i * kRank + r)];
    }
    return y;
  }
};

TEST(Mixlora, is_a_mixture_of_the_ffn_with_loras) {
  for (const int64_t chosen : {1, 2, 3}) {
    const Ffn ffn(static_cast<double>(chosen));
    const auto& y = ffn.at(kMlp + "down_proj");
    for (int64_t row = 0; row < kRows; ++row) {
      const auto from = ffn.at("x").begin() + row * kWidth;
      const std::vector<double> x(from, from + kWidth);
      std::vector<double> scores, expected(kWidth, 0);
      for (int64_t e = 0; e < kExperts; ++e)
        scores.push_back(dot(x, ffn.at(kMlp + "down_proj.mixlora_router"), 0, e, kWidth));
      std::vector<double> sorted = scores;
      std::ranges::sort(sorted, std::greater());
      double sum = 0;
      for (const double score : scores)
        if (score >= sorted[static_cast<size_t>(chosen - 1)]) sum += std::exp(score);
      for (int64_t e = 0; e < kExperts; ++e) {
        if (scores[static_cast<size_t>(e)] < sorted[static_cast<size_t>(chosen - 1)]) continue;
        const auto gate = ffn.layer(x, "gate_proj", e, "gate"), up = ffn.layer(x, "up_proj", e, "up");
        std::vector<double> active;
        for (size_t i = 0; i < gate.size(); ++i) active.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
        const auto down = ffn.layer(active, "down_proj", e, "down");
        for (size_t i = 0; i < down.size(); ++i)
          expected[i] += std::exp(scores[static_cast<size_t>(e)]) / sum * down[i];
      }
      for (size_t i = 0; i < expected.size(); ++i)
        EXPECT_NEAR(y[static_cast<size_t>(row * kWidth) + i], expected[i], 1e-4) << chosen << ": " << row << ", " << i;
    }
  }
}

// The FFN of one expert for every token, without a factor.
TEST(Mole, adds_the_loras_of_the_best_expert) {
  const Ffn ffn(1, kMole);
  const auto& y = ffn.at(kMlp + "down_proj");
  std::vector<int64_t> taken(kExperts);
  for (int64_t row = 0; row < kRows; ++row) {
    const auto from = ffn.at("x").begin() + row * kWidth;
    const std::vector<double> x(from, from + kWidth);
    int64_t best = 0;
    const auto score = [&](int64_t e) { return dot(x, ffn.at(kMlp + "down_proj.mixlora_router"), 0, e, kWidth); };
    for (int64_t e = 1; e < kExperts; ++e)
      if (score(e) > score(best)) best = e;
    ++taken[static_cast<size_t>(best)];
    const auto gate = ffn.layer(x, "gate_proj", best, "gate"), up = ffn.layer(x, "up_proj", best, "up");
    std::vector<double> active;
    for (size_t i = 0; i < gate.size(); ++i) active.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
    const auto expected = ffn.layer(active, "down_proj", best, "down");
    for (size_t i = 0; i < expected.size(); ++i)
      EXPECT_NEAR(y[static_cast<size_t>(row * kWidth) + i], expected[i], 1e-4) << row << ", " << i;
  }
  EXPECT_LT(std::ranges::max(taken), kRows) << "tokens of one expert say nothing of a choice";
}

TEST(Mixlora, is_lora_where_no_ffn_ends) {
  AdaptedLinear layer(kMixlora, {{"rank", kRank}, {"alpha", 6}}, kRows, kWidth, kInner);
  const std::vector<double>& y = layer.run();
  const auto &x = layer.at("x"), &w = layer.own("weight"), &a = layer.own("lora_A.weight"),
             &b = layer.own("lora_B.weight");
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kInner; ++column) {
      double expected = dot(x, w, row, column, kWidth);
      for (int64_t r = 0; r < kRank; ++r)
        expected += 3 * dot(x, a, row, r, kWidth) * b[static_cast<size_t>(column * kRank + r)];
      EXPECT_NEAR(y[static_cast<size_t>(row * kInner + column)], expected, 1e-4);
    }
}

}  // namespace
}  // namespace thimble
