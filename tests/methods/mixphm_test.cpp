// MixPHM: the equation once more, with Kronecker products element by element and the mean of the experts.
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

}  // namespace
}  // namespace thimble
