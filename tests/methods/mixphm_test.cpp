// MixPHM: the equation once more, with Kronecker products element by element and the mean of the experts.
#include <array>
#include <cmath>
#include <numbers>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

using Row = std::vector<double>;

constexpr int64_t kRows = 4, kIn = 5, kOut = 12, kProducts = 2, kRank = 3, kNarrow = 4, kExperts = 3;

// sum over i of A_i (x) (L_i R_i): element (a P + k, b Q + l) is the sum of A_i[a, b] L[k, i r] R[i r, l].
Row kronecker(const Row& a, const Row& left, const Row& right, int64_t out, int64_t in) {
  const int64_t p = out / kProducts, q = in / kProducts;
  Row w(static_cast<size_t>(out * in));
  for (int64_t row = 0; row < out; ++row)
    for (int64_t column = 0; column < in; ++column)
      for (int64_t i = 0; i < kProducts; ++i)
        for (int64_t r = i * kRank; r < (i + 1) * kRank; ++r)
          w[static_cast<size_t>(row * in + column)] +=
              a[static_cast<size_t>((i * kProducts + row / p) * kProducts + column / q)] *
              left[static_cast<size_t>(row % p * kProducts * kRank + r)] *
              right[static_cast<size_t>(r * q + column % q)];
  return w;
}

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

TEST(Mixphm, adds_an_adapter_of_the_mean_of_its_experts) {
  AdaptedLinear layer(kMixphm, {{"reduction", 3}, {"rank", kRank}, {"products", kProducts}, {"experts", kExperts}},
                      kRows, kIn, kOut);
  const Row y = layer.run();
  const auto mean = [&](const std::string& suffix) {
    Row sum(layer.own(suffix + ".0").size());
    for (int64_t e = 0; e < kExperts; ++e)
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += layer.own(fmt::format("{}.{}", suffix, e))[i] / kExperts;
    return sum;
  };
  const Row& a = layer.at("mixphm.A");
  const Row d = kronecker(a, layer.own("mixphm_down_L"), layer.own("mixphm_down_R"), kNarrow, kOut);
  const Row u = kronecker(a, mean("mixphm_up_L"), mean("mixphm_up_R"), kOut, kNarrow);
  const Row c = mean("mixphm_up_c");
  for (int64_t row = 0; row < kRows; ++row) {
    Row f, z;
    for (int64_t j = 0; j < kOut; ++j) f.push_back(dot(layer.at("x"), layer.own("weight"), row, j, kIn));
    for (int64_t j = 0; j < kNarrow; ++j)
      z.push_back(gelu(dot(f, d, 0, j, kOut) + layer.own("mixphm_down_b")[static_cast<size_t>(j)]));
    for (int64_t j = 0; j < kOut; ++j)
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut + j)],
                  f[static_cast<size_t>(j)] + dot(z, u, 0, j, kNarrow) + c[static_cast<size_t>(j)], 1e-4)
          << row << ", " << j;
  }
}

// Of two granules: the sum over i != j of C_ij^2 of each, C made whole here.
TEST(Mixphm, loses_what_an_adapter_repeats_of_its_layer) {
  constexpr int64_t kMany = 700, kWidth = 4, kLayers = 3;
  constexpr double kWeight = 0.5;
  AdaptedLinear layer(kMixphm,
                      {{"reduction", 2}, {"rank", 1}, {"products", 2}, {"experts", 1}, {"redundancy", kWeight}}, kMany,
                      3, kWidth, 1, kLayers, RewriteUse::train);
  const Row y = layer.run();
  ASSERT_EQ(layer.losses.size(), 1U);
  const Row& lost = layer.values.at(layer.losses.front());
  double expected = 0;
  for (const auto& [first, end] : {std::pair{0, 512}, {512, 700}}) {
    std::array<std::array<double, kWidth>, kWidth> common = {};
    for (int64_t row = first; row < end; ++row) {
      Row f, u;
      double of_f = 0, of_u = 0;
      for (int64_t j = 0; j < kWidth; ++j) {
        f.push_back(dot(layer.at("x"), layer.own("weight"), row, j, 3));
        u.push_back(y[static_cast<size_t>(row * kWidth + j)] - f.back());
        of_f += f.back() * f.back(), of_u += u.back() * u.back();
      }
      const double size = std::sqrt(of_f * (of_u + 1e-4 * of_f));
      for (size_t i = 0; i < kWidth; ++i)
        for (size_t j = 0; j < kWidth; ++j) common[i][j] += u[i] * f[j] / size;
    }
    for (size_t i = 0; i < kWidth; ++i)
      for (size_t j = 0; j < kWidth; ++j) expected += i == j ? 0 : common[i][j] * common[i][j];
  }
  double sum = 0;
  for (const double token : lost) sum += token;
  EXPECT_NEAR(sum, 3.9e-3 * kWeight / kLayers * expected, 1e-5 * std::abs(sum));
  EXPECT_GT(sum, 0);
}

}  // namespace
}  // namespace thimble
