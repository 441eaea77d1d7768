// GaLore against a whole decomposition in double: the step does not depend on the signs of the basis.
#include <cmath>

#include "methods/optimizer_run.h"
#include "methods/optimizers/projection.h"

namespace thimble {
namespace {

// The largest r left singular vectors of g, as columns: eigenvectors of g g^T by the power method with deflation.
Dense dominant(const Dense& g, int64_t r) {
  Dense s = g * transpose(g), out(g.rows, r);
  for (int64_t k = 0; k < r; ++k) {
    Dense x(g.rows, 1);
    for (int64_t i = 0; i < g.rows; ++i) x(i, 0) = std::cos(static_cast<double>((k + 1) * (i + 2)));
    double value = 0;
    for (int i = 0; i < 3000; ++i) {
      x = s * x;
      value = x.norm();
      for (double& e : x.at) e /= value;
    }
    for (int64_t i = 0; i < g.rows; ++i) {
      out(i, k) = x(i, 0);
      for (int64_t j = 0; j < g.rows; ++j) s(i, j) -= value * x(i, 0) * x(j, 0);
    }
  }
  return out;
}

// Of falling singular values, so that the directions are well apart.
std::vector<float> falling(int64_t rows, int64_t columns, uint64_t seed) {
  const int64_t side = std::min(rows, columns);
  Dense left(rows, side, normals(static_cast<size_t>(rows * side), seed)),
      right(side, columns, normals(static_cast<size_t>(side * columns), seed + 1));
  for (int64_t k = 0; k < side; ++k)
    for (int64_t j = 0; j < columns; ++j) right(k, j) *= std::pow(0.6, static_cast<double>(k));
  const Dense product = left * right;
  return {product.at.begin(), product.at.end()};
}

void follow(int64_t rows, int64_t columns, int64_t rank) {
  constexpr double kRate = 1e-2, kDecay = 0.1;
  OptionValues options(kGalore.options);
  ASSERT_TRUE(options.set("galore", "rank", std::to_string(rank)));
  ASSERT_TRUE(options.set("galore", "interval", "2"));
  ASSERT_TRUE(options.set("galore", "iterations", "40"));
  OptimizerRun run(kGalore, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  const bool wide = rows < columns;
  Dense p(rows, columns, run.parameter()), basis(0, 0);
  const int64_t other = std::max(rows, columns);
  Dense m(rank, other), v(rank, other), previous(0, 0);
  for (int64_t t = 1; t <= 4; ++t) {
    const std::vector<float> gradient = falling(rows, columns, 10 * static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, gradient);
    Dense g(rows, columns, gradient);
    if (!wide) g = transpose(g);
    if (t % 2 == 1) {
      basis = dominant(g, rank);
      // Signs as thimble's: the first largest element of each vector of the last rotation decides, which only the
      // moments of earlier bases see. The test follows the basis that was taken.
      const std::vector<float> taken = run.state("basis");
      for (int64_t k = 0; k < rank; ++k) {
        double along = 0;
        for (int64_t i = 0; i < basis.rows; ++i)
          along += basis(i, k) * static_cast<double>(taken[static_cast<size_t>(i * rank + k)]);
        EXPECT_NEAR(std::abs(along), 1, 1e-5) << "direction " << k;
        for (int64_t i = 0; i < basis.rows; ++i) basis(i, k) *= along < 0 ? -1 : 1;
      }
    }
    const Dense low = transpose(basis) * g;
    Dense n(rank, other);
    for (size_t e = 0; e < n.at.size(); ++e) {
      const double x = 0.5 * low.at[e];
      m.at[e] = 0.9 * m.at[e] + 0.1 * x, v.at[e] = 0.999 * v.at[e] + 0.001 * x * x;
      n.at[e] = m.at[e] / (1 - std::pow(0.9, static_cast<double>(t))) /
                (std::sqrt(v.at[e]) / std::sqrt(1 - std::pow(0.999, static_cast<double>(t))) + 1e-6);
    }
    Dense back = basis * n;
    if (!wide) back = transpose(back);
    for (size_t e = 0; e < count; ++e) p.at[e] = p.at[e] * (1 - kRate * kDecay) - kRate * 0.25 * back.at[e];
  }
  expect_near(run.parameter(), p.at, 1e-4);
}

TEST(Galore, follows_its_algorithm) {
  follow(12, 30, 4);
  follow(30, 12, 4);
  follow(10, 25, 10);  // the whole side
}

TEST(Galore, keeps_as_many_numbers_as_the_paper_says) {
  for (const auto& [rows, columns] : {std::pair{128, 512}, {512, 128}}) {
    OptimizerRun run(kGalore, OptionValues(kGalore.options), {"p", {rows, columns}, true});
    EXPECT_EQ(run.state_bytes(), 4 * (32 * (2 * 512 + 128)));  // r(2n + m), r = m / 4
  }
}

}  // namespace
}  // namespace thimble
