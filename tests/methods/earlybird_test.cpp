// EarlyBIRD: what the head reads of early blocks, and that nothing is left of the others.
#include <algorithm>
#include <cmath>

#include "methods/adapted_linear.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Row = std::vector<double>;

constexpr int64_t kRows = 3, kWidth = 4, kBlocks = 4;

// Blocks x + W x and a copy for a head.
struct Model {
  Result<Rewritten> made = fail(ErrorCode::unsupported, "not made");
  ReferenceValues values;

  Model(double blocks, double combination) {
    Graph plain;
    ModelTaps taps;
    const auto copied = [&](ValueId of, const std::string& name) {
      PointwiseBuilder b;
      b.output(b.tensor());
      return plain.emit(kPointwise, b.attributes(), {of}, name);
    };
    ValueId x = copied(plain.add_value("x", {{kRows, kWidth}, &kF32, Extent::tokens}, Role::input), "embedded");
    taps.streams = {x};
    for (int b = 0; b < kBlocks; ++b) {
      plain.set_block(b);
      const ValueId w = plain.add_value(weight(b), {{kWidth, kWidth}}, Role::weight);
      x = plain.emit(kLinear, LinearAttributes{}, {x, w, kNone, x}, fmt::format("stream.{}", b));
      taps.streams.push_back(x);
    }
    plain.set_block(-1);
    plain.value(copied(x, "head")).role = Role::result;
    AdaptedModule module;
    module.name = module.owner = "model.embed_tokens";
    module.options = OptionValues(kEarlybird.options);
    EXPECT_TRUE(module.options.set("earlybird", "blocks", blocks) &&
                module.options.set("earlybird", "combination", combination));
    RewriteSpec spec{.rewrite = &kEarlybird};
    spec.modules[module.name] = module;
    PassLog log;
    made = rewrite_model(std::move(plain), {{spec}}, RewriteUse::infer, log, taps);
    if (!made) return;
    EXPECT_TRUE(made->graph.verify());
    for (size_t i = 0; i < made->graph.values().size(); ++i) {
      const Value& value = made->graph.values()[i];
      if (made->graph.producer(static_cast<ValueId>(i)) >= 0) continue;
      for (int64_t k = 0; k < value.type.shape.count(); ++k)
        values[static_cast<ValueId>(i)].push_back(Random(3, value.name).normal(static_cast<uint64_t>(k)));
    }
    Threads threads(1);
    RunContext context{threads, Multiply::f32, 0, 0, 0};
    run_reference(made->graph, values, context);
  }
  static std::string weight(int64_t block) { return fmt::format("model.layers.{}.weight", block); }
  const Row& at(const std::string& name) { return values.at(made->graph.find(name)); }
  // Behind so many blocks.
  Row stream(int64_t blocks) {
    Row x = at("x");
    for (int64_t b = 0; b < blocks; ++b) {
      Row y = x;
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t i = 0; i < kWidth; ++i)
          y[static_cast<size_t>(row * kWidth + i)] += dot(x, at(weight(b)), row, i, kWidth);
      x = y;
    }
    return x;
  }
};

void expect_near(const Row& found, const Row& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-4 * (1 + std::abs(expected[i]))) << i;
}

TEST(Earlybird, the_head_reads_a_combination_of_early_blocks) {
  for (const int64_t blocks : {1, 3, 4}) {
    SCOPED_TRACE(blocks);
    Model last(static_cast<double>(blocks), 0), weighted(static_cast<double>(blocks), 1),
        largest(static_cast<double>(blocks), 2);
    ASSERT_TRUE(last.made && weighted.made && largest.made);
    expect_near(last.at("head"), last.stream(blocks));
    Row sum(kRows * kWidth, 0), most(kRows * kWidth, -1e30);
    for (int64_t l = 1; l <= blocks; ++l) {
      const Row h = weighted.stream(l);
      const double w = weighted.at(fmt::format("earlybird.weight.{}", l))[0];
      for (size_t i = 0; i < h.size(); ++i) sum[i] += w * h[i], most[i] = std::max(most[i], h[i]);
    }
    expect_near(weighted.at("head"), sum);
    expect_near(largest.at("head"), most);
    EXPECT_TRUE(last.made->tensors.empty() && largest.made->tensors.empty());
    EXPECT_EQ(std::ssize(weighted.made->tensors), blocks);
  }
}

TEST(Earlybird, leaves_nothing_of_the_other_blocks) {
  Model model(2, 1);
  ASSERT_TRUE(model.made);
  for (const Node& node : model.made->graph.nodes()) EXPECT_LT(node.block, 2) << node.op->name;
  EXPECT_NE(model.made->graph.find(Model::weight(1)), kNone);
  EXPECT_EQ(model.made->graph.find(Model::weight(2)), kNone);
}

TEST(Earlybird, more_blocks_than_there_are_is_an_error) {
  const Model model(5, 0);
  ASSERT_FALSE(model.made);
  EXPECT_EQ(model.made.error().message, "--set earlybird.blocks=5: the model has 4; give at most that many");
}

}  // namespace
}  // namespace thimble
