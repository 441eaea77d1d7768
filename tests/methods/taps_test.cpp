// TAPS: a layer moves where its score is above the threshold.
#include "methods/adapted_linear.h"

namespace thimble {
namespace {

TEST(Taps, moves_layers_whose_score_is_above_the_threshold) {
  constexpr int64_t kRows = 5, kIn = 12, kOut = 7;
  for (const double score : {0.15, 0.11, 0.09, -0.5}) {
    AdaptedLinear layer(kTaps, {}, kRows, kIn, kOut);
    layer.own("taps_score") = {score};
    const std::vector<double>& y = layer.run();
    const auto &x = layer.at("x"), &w = layer.own("weight"), &d = layer.own("taps_D");
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t column = 0; column < kOut; ++column)
        EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)],
                    dot(x, w, row, column, kIn) + (score > 0.1 ? dot(x, d, row, column, kIn) : 0), 1e-4);
  }
}

}  // namespace
}  // namespace thimble
