// HyperFormer: the equation once more, from embeddings to the layer.
#include <cmath>
#include <numbers>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

using Row = std::vector<double>;

constexpr int64_t kRows = 5, kIn = 6, kOut = 8, kNarrow = 2, kEmbedding = 3, kHidden = 5;

// W x + b, of W [n, k].
Row linear(const Row& w, const Row& x, const Row& b) {
  Row y;
  const auto k = static_cast<int64_t>(x.size());
  for (int64_t i = 0; i < static_cast<int64_t>(b.size()); ++i)
    y.push_back(dot(w, x, i, 0, k) + b[static_cast<size_t>(i)]);
  return y;
}

Row normed(const Row& x, double epsilon) {
  double mean = 0, square = 0;
  for (const double one : x) mean += one / static_cast<double>(x.size());
  for (const double one : x) square += (one - mean) * (one - mean) / static_cast<double>(x.size());
  Row y;
  for (const double one : x) y.push_back((one - mean) / std::sqrt(square + epsilon));
  return y;
}

double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}

TEST(Hyperformer, makes_the_weights_of_an_adapter_from_embeddings) {
  AdaptedLinear layer(kHyperformer, {{"reduction", 4}, {"embedding", kEmbedding}, {"hidden", kHidden}}, kRows, kIn,
                      kOut, 2, 4);
  const Row y = layer.run();
  const auto at = [&](const std::string& name) -> const Row& { return layer.at("hyperformer." + name); };
  Row low = at("w1");
  for (const auto& [place, weight] : {std::pair{"task", "task"}, {"layer.2", "layer"}, {"place.0", "place"}}) {
    const Row part = linear(at(std::string("W1.") + weight), at(place), Row(kHidden, 0));
    for (size_t i = 0; i < low.size(); ++i) low[i] += part[i];
  }
  for (double& one : low) one = std::max(one, 0.0);
  Row e = normed(linear(at("W2"), low, at("w2")), 1e-6);
  for (size_t i = 0; i < e.size(); ++i) e[i] = e[i] * at("norm.weight")[i] + at("norm.bias")[i];
  const auto made = [&](const std::string& what) {
    return linear(at("8." + what + ".weight"), e, at("8." + what + ".bias"));
  };
  ASSERT_EQ(made("down").size(), static_cast<size_t>(kNarrow * kOut));
  for (int64_t row = 0; row < kRows; ++row) {
    const Row x(layer.at("x").begin() + row * kIn, layer.at("x").begin() + (row + 1) * kIn);
    const Row f = linear(layer.own("weight"), x, Row(kOut, 0));
    Row a = linear(made("down"), f, made("down_bias"));
    for (double& one : a) one = gelu_tanh(one);
    const Row u = normed(linear(made("up"), a, made("up_bias")), 1e-5), gain = made("gain"), shift = made("shift");
    for (size_t i = 0; i < f.size(); ++i)
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut) + i], f[i] + gain[i] * u[i] + shift[i], 1e-4) << row << ", " << i;
  }
}

}  // namespace
}  // namespace thimble
