// The equation of @NAME@ once more, in double. Training, resumption, merging and budgets are tested for every
// method.
#include "methods/adapted_linear.h"

namespace thimble {
namespace {

TEST(@PASCAL@, adds_a_product_of_low_rank) {
  constexpr int64_t kRows = 4, kIn = 6, kOut = 5, kRank = 2;
  AdaptedLinear layer(@SYMBOL@, {{"rank", kRank}}, kRows, kIn, kOut);
  const std::vector<double>& y = layer.run();
  const auto &x = layer.at("x"), &w = layer.own("weight"), &a = layer.own("@NAME@_A"), &b = layer.own("@NAME@_B");
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kOut; ++column) {
      double expected = dot(x, w, row, column, kIn);
      for (int64_t r = 0; r < kRank; ++r)
        expected += dot(x, a, row, r, kIn) * b[static_cast<size_t>(column * kRank + r)];
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)], expected, 1e-9) << row << ", " << column;
    }
}

}  // namespace
}  // namespace thimble
