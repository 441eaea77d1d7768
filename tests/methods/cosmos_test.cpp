// COSMOS against its algorithm in double, from the directions that the first step took.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kRate = 1e-2, kDecay = 0.1, kBeta1 = 0.9, kBeta2 = 0.96, kBeta3 = 0.96, kRatio = 0.1, kEpsilon = 1e-8;
constexpr int64_t kRank = 3;

Dense orthonormal(Dense a) {
  for (int64_t k = 0; k < a.columns; ++k)
    for (int twice = 0; twice < 2; ++twice) {
      for (int64_t j = 0; j < k; ++j) {
        double along = 0;
        for (int64_t i = 0; i < a.rows; ++i) along += a(i, j) * a(i, k);
        for (int64_t i = 0; i < a.rows; ++i) a(i, k) -= along * a(i, j);
      }
      double length = 0;
      for (int64_t i = 0; i < a.rows; ++i) length += a(i, k) * a(i, k);
      for (int64_t i = 0; i < a.rows; ++i) a(i, k) /= std::sqrt(length);
    }
  return a;
}

Dense mix(double a, const Dense& x, double b, const Dense& y) {
  Dense out = x;
  for (size_t e = 0; e < x.at.size(); ++e) out.at[e] = a * x.at[e] + b * y.at[e];
  return out;
}

Dense newton_schulz(Dense x) {
  const double length = x.norm();
  for (double& e : x.at) e /= length + 1e-7;
  for (int i = 0; i < 5; ++i) {
    const Dense a = x * transpose(x);
    x = mix(3.4445, x, 1, mix(-4.7750, a, 2.0315, a * a) * x);
  }
  return x;
}

void follow(int64_t rows, int64_t columns) {
  OptionValues options(kCosmos.options);
  ASSERT_TRUE(options.set("cosmos", "rank", "3") && options.set("cosmos", "iterations", "40"));
  OptimizerRun run(kCosmos, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  const bool wide = rows < columns;
  const auto lying = [&](const Dense& x) { return wide ? x : transpose(x); };
  Dense p(rows, columns, run.parameter());
  const int64_t side = std::min(rows, columns), other = std::max(rows, columns);
  Dense m(side, other), v(kRank, other), basis(side, kRank), s(kRank, kRank);
  for (int64_t t = 1; t <= 5; ++t) {
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, gradient);
    Dense g = lying(Dense(rows, columns, gradient));
    for (double& x : g.at) x *= 0.5;
    if (t == 1) {
      basis = Dense(side, kRank, run.state("basis"));  // they are singular vectors: G G^T B = B (B^T G G^T B)
      const Dense image = g * (transpose(g) * basis);
      expect_near({image.at.begin(), image.at.end()}, (basis * (transpose(basis) * image)).at, 1e-4);
      const Dense seen = transpose(g) * basis;
      s = transpose(seen) * seen;
      for (double& x : s.at) x *= 1 - kBeta3;
    } else {
      const Dense next = orthonormal(mix(kBeta3, basis * s, 1 - kBeta3, g * (transpose(g) * basis)));
      const Dense turn = transpose(basis) * next, seen = transpose(g) * next;
      basis = next;
      s = mix(kBeta3, transpose(turn) * (s * turn), 1 - kBeta3, transpose(seen) * seen);
    }
    m = mix(kBeta1, m, 1 - kBeta1, g);
    const Dense seen = transpose(basis) * g, low = transpose(basis) * m;
    Dense a = low;
    for (size_t e = 0; e < v.at.size(); ++e) {
      v.at[e] = kBeta2 * v.at[e] + (1 - kBeta2) * seen.at[e] * seen.at[e];
      a.at[e] = low.at[e] / (1 - std::pow(kBeta1, static_cast<double>(t))) /
                (std::sqrt(v.at[e] / (1 - std::pow(kBeta2, static_cast<double>(t)))) + kEpsilon);
    }
    const Dense b = newton_schulz(mix(1, m, -1, basis * low));
    const double size = kRatio * std::sqrt(static_cast<double>(count));
    const Dense d = lying(mix(1, basis * a, size / b.norm(), b));  // a second transposition undoes the first
    for (size_t e = 0; e < count; ++e) p.at[e] = p.at[e] * (1 - kRate * kDecay) - size * kRate * d.at[e] / d.norm();
    expect_near(run.parameter(), p.at, 2e-4);
  }
}

TEST(Cosmos, follows_its_algorithm) {
  follow(7, 12);
  follow(12, 7);
}

TEST(Cosmos, keeps_as_many_numbers_as_it_says) {
  OptimizerRun run(kCosmos, OptionValues(kCosmos.options), {"p", {128, 512}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (128 * 512 + 128 * 64 + 64 * 64 + 64 * 512));
}

}  // namespace
}  // namespace thimble
