// MoLA: the equation once more, experts one by one; how many experts a layer has.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 5, kIn = 12, kOut = 7, kRank = 3;

// Gates of a token: the softmax of the largest scores.
std::vector<double> gates(const std::vector<double>& scores, size_t chosen) {
  std::vector<double> sorted = scores;
  std::ranges::sort(sorted, std::greater());
  std::vector<double> out;
  double sum = 0;
  for (const double score : scores) {
    out.push_back(score >= sorted[chosen - 1] ? std::exp(score) : 0);
    sum += out.back();
  }
  for (double& gate : out) gate /= sum;
  return out;
}

TEST(Mola, adds_what_the_chosen_experts_say) {
  for (const int64_t chosen : {1, 2, 4}) {
    AdaptedLinear layer(kMola, {{"rank", kRank}, {"alpha", 6}, {"chosen", static_cast<double>(chosen)}}, kRows, kIn,
                        kOut, 1, 4);  // the second quarter of the layers has 4 experts
    const std::vector<double>& y = layer.run();
    const auto &x = layer.at("x"), &w = layer.own("weight"), &router = layer.own("mola_router"),
               &a = layer.own("mola_A"), &b = layer.own("mola_B");
    ASSERT_EQ(router.size(), 4U * kIn);
    for (int64_t row = 0; row < kRows; ++row) {
      std::vector<double> scores;
      for (int64_t e = 0; e < 4; ++e) scores.push_back(dot(x, router, row, e, kIn));
      const std::vector<double> gate = gates(scores, static_cast<size_t>(chosen));
      for (int64_t column = 0; column < kOut; ++column) {
        double expected = dot(x, w, row, column, kIn);
        for (int64_t e = 0; e < 4; ++e)
          for (int64_t r = 0; r < kRank; ++r)
            expected += 2 * gate[static_cast<size_t>(e)] * dot(x, a, row, e * kRank + r, kIn) *
                        b[static_cast<size_t>((column * 4 + e) * kRank + r)];
        EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)], expected, 1e-4) << row << ", " << column;
      }
    }
  }
}

TEST(Mola, has_more_experts_in_higher_layers) {
  const auto experts = [](int64_t layer) {
    AdaptedLinear one(kMola, {{"rank", 1}}, kRows, kIn, kOut, layer, 6);
    return one.graph.value(one.graph.find(one.name + ".mola_router")).type.shape[0];
  };
  std::vector<int64_t> all;
  for (int64_t layer = 0; layer < 6; ++layer) all.push_back(experts(layer));
  EXPECT_THAT(all, testing::ElementsAre(2, 2, 4, 6, 6, 8));
  EXPECT_EQ(experts(-1), 8) << "what is in no block";
}

}  // namespace
}  // namespace thimble
