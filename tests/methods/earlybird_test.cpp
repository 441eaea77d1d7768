// EarlyBIRD: what the head reads of early blocks, and that nothing is left of the others.
#include <algorithm>
#include <cmath>

#include "methods/streamed_model.h"

namespace thimble {
namespace {

constexpr int64_t kWidth = 4;

struct Model : StreamedModel {
  Model(double blocks, double combination)
      : StreamedModel(kEarlybird, kWidth, {{"blocks", blocks}, {"combination", combination}}) {}
};

TEST(Earlybird, the_head_reads_a_combination_of_early_blocks) {
  for (const int64_t blocks : {1, 3, 4}) {
    SCOPED_TRACE(blocks);
    Model last(static_cast<double>(blocks), 0), weighted(static_cast<double>(blocks), 1),
        largest(static_cast<double>(blocks), 2);
    ASSERT_TRUE(last.made && weighted.made && largest.made);
    expect_near(last.at("head"), last.stream(blocks));
    Row sum(Model::kRows * kWidth, 0), most(Model::kRows * kWidth, -1e30);
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
