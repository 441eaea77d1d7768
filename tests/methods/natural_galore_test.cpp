// Natural GaLore's gradient against the system that it solves, in double, from the basis that was taken.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

// x of a x = b, by Gauss with pivots.
std::vector<double> solve(Dense a, std::vector<double> b) {
  const int64_t n = a.rows;
  for (int64_t k = 0; k < n; ++k) {
    int64_t most = k;
    for (int64_t i = k; i < n; ++i)
      if (std::abs(a(i, k)) > std::abs(a(most, k))) most = i;
    for (int64_t j = 0; j < n; ++j) std::swap(a(k, j), a(most, j));
    std::swap(b[static_cast<size_t>(k)], b[static_cast<size_t>(most)]);
    for (int64_t i = k + 1; i < n; ++i) {
      const double factor = a(i, k) / a(k, k);
      for (int64_t j = k; j < n; ++j) a(i, j) -= factor * a(k, j);
      b[static_cast<size_t>(i)] -= factor * b[static_cast<size_t>(k)];
    }
  }
  for (int64_t k = n; k-- > 0;) {
    for (int64_t j = k + 1; j < n; ++j) b[static_cast<size_t>(k)] -= a(k, j) * b[static_cast<size_t>(j)];
    b[static_cast<size_t>(k)] /= a(k, k);
  }
  return b;
}

void follow(int64_t rows, int64_t columns) {
  constexpr double kRate = 1e-2, kDecay = 0.1, kDamping = 0.05;
  constexpr int64_t kRank = 3, kHistory = 3;
  OptionValues options(kNaturalGalore.options);
  ASSERT_TRUE(options.set("natural_galore", "rank", "3") && options.set("natural_galore", "history", "3") &&
              options.set("natural_galore", "damping", "0.05") && options.set("natural_galore", "interval", "4"));
  OptimizerRun run(kNaturalGalore, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  const bool wide = rows < columns;
  const auto lying = [&](const Dense& x) { return wide ? x : transpose(x); };
  Dense p(rows, columns, run.parameter());
  const int64_t side = std::min(rows, columns), other = std::max(rows, columns), size = kRank * other;
  Dense m(kRank, other), v(kRank, other);
  std::vector<std::vector<double>> seen;
  for (int64_t t = 1; t <= 6; ++t) {
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t), 0.1);
    run.step(kRate, t, 0.5, gradient);
    Dense g = lying(Dense(rows, columns, gradient));
    for (double& x : g.at) x *= 0.5;
    const Dense basis(side, kRank, run.state("basis")), low = transpose(basis) * g;
    seen.push_back(low.at);
    Dense fisher(size, size);
    for (int64_t i = 0; i < size; ++i) fisher(i, i) = kDamping;
    for (size_t k = seen.size() > kHistory ? seen.size() - kHistory : 0; k < seen.size(); ++k)
      for (int64_t i = 0; i < size; ++i)
        for (int64_t j = 0; j < size; ++j)
          fisher(i, j) += seen[k][static_cast<size_t>(i)] * seen[k][static_cast<size_t>(j)];
    const std::vector<double> natural = solve(fisher, low.at);
    Dense n(kRank, other);
    for (size_t e = 0; e < natural.size(); ++e) {
      m.at[e] = 0.9 * m.at[e] + 0.1 * natural[e], v.at[e] = 0.999 * v.at[e] + 0.001 * natural[e] * natural[e];
      n.at[e] = m.at[e] / (1 - std::pow(0.9, static_cast<double>(t))) /
                (std::sqrt(v.at[e] / (1 - std::pow(0.999, static_cast<double>(t)))) + 1e-6);
    }
    const Dense step = lying(basis * n);
    for (size_t e = 0; e < count; ++e) p.at[e] = p.at[e] * (1 - kRate * kDecay) - kRate * 0.25 * step.at[e];
    expect_near(run.parameter(), p.at, 2e-4);
  }
}

TEST(NaturalGalore, divides_by_the_fisher_information) {
  follow(6, 11);
  follow(11, 6);
}

TEST(NaturalGalore, keeps_its_history) {
  OptimizerRun run(kNaturalGalore, OptionValues(kNaturalGalore.options), {"p", {128, 512}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (32 * (2 * 512 + 128) + 20 * 32 * 512));
}

}  // namespace
}  // namespace thimble
