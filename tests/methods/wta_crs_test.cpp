// wta_crs: without a bias, with less variance than draws alone, and fewer rows.
#include <cmath>

#include "methods/kept_graph.h"
#include "ops/keep.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 24, kColumns = 64, kOut = 3;

KeptGraph linear_with(std::vector<KeeperUse> uses, int64_t rows = kRows) {
  return {{rows, kColumns}, std::move(uses), [](Graph& g, ValueId x) { return linear_of(g, x, kOut); }};
}

// Rows of very different lengths, as tokens have.
void stretch(std::vector<double>& x) {
  for (size_t i = 0; i < x.size(); ++i) x[i] *= std::exp(-0.3 * static_cast<double>(i / kColumns));
}

struct Moments {
  std::vector<double> mean, deviation;  // of the mean
  double variance = 0;                  // of all numbers together
};

Moments moments(KeptGraph& g, int draws) {
  Moments m;
  std::vector<double> squares;
  for (int draw = 0; draw < draws; ++draw) {
    g.run(static_cast<uint64_t>(draw % 7), 100 + static_cast<uint64_t>(draw));
    const std::vector<double>& dw = g.gradient("w");
    m.mean.resize(dw.size()), squares.resize(dw.size());
    for (size_t i = 0; i < dw.size(); ++i) m.mean[i] += dw[i] / draws, squares[i] += dw[i] * dw[i] / draws;
  }
  for (size_t i = 0; i < squares.size(); ++i) {
    const double variance = std::max(0.0, squares[i] - m.mean[i] * m.mean[i]);
    m.deviation.push_back(std::sqrt(variance / draws)), m.variance += variance;
  }
  return m;
}

// Every number within five standard errors, and their distances in standard errors of 1 on average.
TEST(WtaCrs, is_the_exact_gradient_in_the_mean) {
  KeptGraph exact = linear_with({}), g = linear_with({keeper_use(kWtaCrs, {{"rate", 0.3}})});
  stretch(exact.at("a")), stretch(g.at("a"));
  exact.run();
  const Moments m = moments(g, 1500);
  double distance = 0;
  for (size_t i = 0; i < m.mean.size(); ++i) {
    const double errors = (m.mean[i] - exact.gradient("w")[i]) / m.deviation[i];
    EXPECT_LT(std::abs(errors), 5) << "element " << i;
    distance += errors * errors / static_cast<double>(m.mean.size());
  }
  EXPECT_NEAR(distance, 1, 0.5);
}

// The paper's claim: rows of the largest p without draws make the variance less than that of draws alone, whose
// variance for one weight is (sum |x| sum |dy|^2 |x| - |dW|^2) / k.
TEST(WtaCrs, has_less_variance_than_draws_alone) {
  KeptGraph exact = linear_with({}), g = linear_with({keeper_use(kWtaCrs, {{"rate", 0.3}})});
  stretch(exact.at("a")), stretch(g.at("a"));
  exact.run();
  const std::vector<double>&x = exact.at("a"), &dy = exact.at("dy");
  double norms = 0, weighted = 0, squares = 0;
  for (int64_t i = 0; i < kRows; ++i) {
    double a = 0, b = 0;
    for (int64_t j = 0; j < kColumns; ++j) a += std::pow(x[size_t(i * kColumns + j)], 2);
    for (int64_t o = 0; o < kOut; ++o) b += std::pow(dy[size_t(i * kOut + o)], 2);
    norms += std::sqrt(a), weighted += std::sqrt(a) * b;
  }
  for (const double d : exact.gradient("w")) squares += d * d;
  const double draws_alone = (norms * weighted - squares) / static_cast<double>(sampled_rows(kRows, 0.3));
  EXPECT_LT(moments(g, 400).variance, 0.7 * draws_alone);
}

TEST(WtaCrs, keeps_a_part_of_the_rows) {
  constexpr int64_t kMany = 600;  // a granule of 512 and one of 88
  EXPECT_EQ(sampled_rows(kMany, 0.3), 154 + 26);
  KeptGraph g = linear_with({keeper_use(kWtaCrs, {{"rate", 0.3}})}, kMany);
  EXPECT_EQ(g.kept_bytes(), (154 + 26) * (kColumns * 4 + 4 + 4));
  EXPECT_EQ(linear_with({}, kMany).kept_bytes(), kMany * kColumns * 4);
}

TEST(WtaCrs, with_all_rows_is_exact) {
  KeptGraph exact = linear_with({}), g = linear_with({keeper_use(kWtaCrs, {{"rate", 1}})});
  stretch(exact.at("a")), stretch(g.at("a"));
  exact.run(), g.run();
  for (size_t i = 0; i < exact.gradient("w").size(); ++i)
    EXPECT_NEAR(g.gradient("w")[i], exact.gradient("w")[i], 1e-6) << i;
}

}  // namespace
}  // namespace thimble
