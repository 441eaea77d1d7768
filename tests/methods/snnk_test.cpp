// SNNK: the equation once more; the same directions whoever reads the file.
#include <cmath>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 5, kIn = 12, kOut = 7, kFeatures = 6;

TEST(Snnk, adds_random_features_times_its_matrix) {
  for (const double cut : {0.0, 0.5}) {
    AdaptedLinear layer(kSnnk, {{"features", kFeatures}, {"constant", cut}, {"key", 5}}, kRows, kIn, kOut);
    const std::vector<double>& y = layer.run();
    const auto &x = layer.at("x"), &w = layer.own("weight"), &p = layer.own("snnk_P");
    const auto& g = layer.at(fmt::format("snnk_G.{}.{}.5", kFeatures, kIn));
    int cut_off = 0;
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t column = 0; column < kOut; ++column) {
        double expected = dot(x, w, row, column, kIn);
        for (int64_t f = 0; f < kFeatures; ++f) {
          const double along = dot(x, g, row, f, kIn);
          cut_off += along < cut;
          expected +=
              std::max(along, cut) / std::sqrt(double{kFeatures}) * p[static_cast<size_t>(column * kFeatures + f)];
        }
        EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)], expected, 1e-4) << row << ", " << column;
      }
    EXPECT_GT(cut_off, 0);
  }
}

TEST(Snnk, draws_its_directions_from_the_key) {
  const auto directions = [](double key) {
    AdaptedLinear layer(kSnnk, {{"features", kFeatures}, {"key", key}}, kRows, kIn, kOut);
    return layer.at(fmt::format("snnk_G.{}.{}.{}", kFeatures, kIn, key));
  };
  EXPECT_EQ(directions(1), directions(1));
  EXPECT_NE(directions(1), directions(2));
  double squares = 0;
  for (const double number : directions(1)) squares += number * number;
  EXPECT_NEAR(squares / (kFeatures * kIn), 1, 0.4);
}

}  // namespace
}  // namespace thimble
