// MEFT: the equations of both streams once more, row by row.
#include <cmath>

#include "methods/adapted_linear.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Row = std::vector<double>;

constexpr int64_t kRows = 4, kWidth = 6, kInner = 7, kRank = 2, kBlocks = 3;

double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

Row sum(double a, const Row& x, double b, const Row& y) {
  Row out;
  for (size_t i = 0; i < x.size(); ++i) out.push_back(a * x[i] + b * y[i]);
  return out;
}

// Blocks that are an FFN each: x + W gelu(V x).
struct Model {
  Graph graph;
  ReferenceValues values;

  Model(double lambda, bool weighted) {
    RewriteSpec spec{.rewrite = &kMeft};
    ModelTaps taps;
    Graph plain;
    const auto copied = [&](ValueId of, const std::string& name) {
      PointwiseBuilder b;
      b.output(b.tensor());
      return plain.emit(kPointwise, b.attributes(), {of}, name);
    };
    const auto linear = [&](ValueId of, const std::string& name, int64_t out, ValueId addend) {
      const int64_t in = plain.value(of).type.shape[1];
      const ValueId w = plain.add_value(name + ".weight", {{out, in}}, Role::weight);
      return plain.emit(kLinear, LinearAttributes{}, {of, w, kNone, addend}, name);
    };
    ValueId x = copied(plain.add_value("x", {{kRows, kWidth}, &kF32, Extent::tokens}, Role::input), "embedded");
    taps.streams = {x};
    for (int b = 0; b < kBlocks; ++b) {
      plain.set_block(b);
      const ValueId up = linear(x, mlp(b) + "up_proj", kInner, kNone);
      const ValueId act = plain.emit(kActivation, ActivationAttributes{Activation::gelu}, {up, kNone}, mlp(b) + "act");
      x = linear(act, mlp(b) + "down_proj", kWidth, x);
      taps.streams.push_back(x);
      AdaptedModule module;
      module.name = module.owner = mlp(b) + "down_proj";
      module.whole = kWidth, module.options = OptionValues(kMeft.options);
      EXPECT_TRUE(module.options.set("meft", "rank", kRank) && module.options.set("meft", "lambda", lambda) &&
                  module.options.set("meft", "weighted", weighted));
      spec.modules[module.name] = module;
    }
    plain.set_block(-1);
    plain.value(copied(x, "head")).role = Role::result;
    PassLog log;
    auto made = rewrite_model(std::move(plain), {{spec}}, RewriteUse::infer, log, taps);
    EXPECT_TRUE(made) << made.error().message;
    graph = std::move(made->graph);
    EXPECT_TRUE(graph.verify());
    for (size_t i = 0; i < graph.values().size(); ++i) {
      const Value& value = graph.values()[i];
      if (graph.producer(static_cast<ValueId>(i)) >= 0) continue;
      for (int64_t k = 0; k < value.type.shape.count(); ++k)
        values[static_cast<ValueId>(i)].push_back(0.5 * Random(3, value.name).normal(static_cast<uint64_t>(k)));
    }
    Threads threads(1);
    RunContext context{threads, Multiply::f32, 0, 0, 0};
    run_reference(graph, values, context);
  }

  static std::string mlp(int64_t block) { return fmt::format("model.layers.{}.mlp.", block); }
  const Row& at(const std::string& name) const { return values.at(graph.find(name)); }
  Row product(const Row& x, const std::string& w) const {
    const auto k = static_cast<int64_t>(x.size());
    Row y;
    for (int64_t i = 0; i < static_cast<int64_t>(at(w).size()) / k; ++i) y.push_back(dot(x, at(w), 0, i, k));
    return y;
  }
  Row adapter(const Row& x, const std::string& name) const {
    Row low = sum(1, product(x, name + "down.weight"), 1, at(name + "down.bias"));
    for (double& number : low) number = gelu(number);
    return sum(1, product(low, name + "up.weight"), 1, at(name + "up.bias"));
  }
  Row block(int64_t b, const Row& x) const {
    Row act = product(x, mlp(b) + "up_proj.weight");
    for (double& number : act) number = gelu(number);
    const Row ffn = sum(1, product(act, mlp(b) + "down_proj.weight"), 1, adapter(x, mlp(b) + "down_proj.meft_"));
    return sum(1, x, 1, ffn);
  }
  Row beside(int64_t b, const Row& y) const {
    double mean = 0, squares = 0;
    for (const double number : y) mean += number / kWidth;
    for (const double number : y) squares += (number - mean) * (number - mean) / kWidth;
    Row n;
    for (const double number : y) n.push_back((number - mean) / std::sqrt(squares + 1e-5));
    return adapter(n, fmt::format("meft.{}.", b));
  }
};

TEST(Meft, couples_two_streams) {
  for (const bool weighted : {false, true})
    for (const double lambda : {0.125, 0.5}) {
      SCOPED_TRACE(fmt::format("lambda {} weighted {}", lambda, weighted));
      const Model model(lambda, weighted);
      const Row& found = model.at("head");
      for (int64_t row = 0; row < kRows; ++row) {
        const auto from = model.at("x").begin() + row * kWidth;
        Row x1(from, from + kWidth), x2 = x1;
        for (int64_t b = 0; b < kBlocks; ++b) {
          const Row f = weighted ? sum(1 - lambda, model.block(b, x2), 2 * lambda, x2) : model.block(b, x2);
          const Row y1 = sum(weighted ? -lambda : lambda, x1, 1, f);
          x1 = sum(1, x2, 1, model.beside(b, y1));
          x2 = y1;
        }
        const double other = weighted ? -lambda : 1;
        const Row expected = sum(1 / (1 + other), x2, other / (1 + other), x1);
        for (int64_t i = 0; i < kWidth; ++i)
          EXPECT_NEAR(found[static_cast<size_t>(row * kWidth + i)], expected[static_cast<size_t>(i)], 1e-6)
              << row << ", " << i;
      }
    }
}

}  // namespace
}  // namespace thimble
