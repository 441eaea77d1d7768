// SOAP against its algorithms in double, from the eigenvectors that the first step took: those of a covariance of lower
// rank are not unique.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kRate = 1e-2, kDecay = 0.1, kBeta1 = 0.9, kBeta2 = 0.8, kEpsilon = 1e-8;
constexpr int64_t kInterval = 2;

// That the columns of q are orthonormal eigenvectors of s, the largest first.
void expect_eigenvectors(const Dense& s, const Dense& q) {
  const Dense values = transpose(q) * (s * q), one = transpose(q) * q;
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t j = 0; j < s.rows; ++j) {
      EXPECT_NEAR(one(i, j), i == j, 1e-5);
      if (i != j) {
        EXPECT_NEAR(values(i, j), 0, 1e-5 * s.norm());
      }
    }
    if (i > 0) {
      EXPECT_LE(values(i, i), values(i - 1, i - 1) + 1e-5 * s.norm());
    }
  }
}

// Gram and Schmidt, twice.
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

struct Side {
  bool rows;
  Dense covariance, basis;
};

// v's rows or columns go the way of the directions.
void turn(Side& side, Dense& v) {
  const int64_t n = side.covariance.rows;
  const Dense grown = side.covariance * side.basis;
  std::vector<double> sizes(static_cast<size_t>(n), 0);
  for (int64_t k = 0; k < n; ++k)
    for (int64_t i = 0; i < n; ++i) sizes[static_cast<size_t>(k)] += side.basis(i, k) * grown(i, k);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return sizes[static_cast<size_t>(a)] > sizes[static_cast<size_t>(b)]; });
  Dense sorted(n, n), next = v;
  for (int64_t k = 0; k < n; ++k) {
    const int64_t from = order[static_cast<size_t>(k)];
    for (int64_t i = 0; i < n; ++i) sorted(i, k) = grown(i, from);
    for (int64_t i = 0; i < (side.rows ? v.columns : v.rows); ++i)
      (side.rows ? next(k, i) : next(i, k)) = side.rows ? v(from, i) : v(i, from);
  }
  v = next;
  side.basis = orthonormal(sorted);
}

void follow(int64_t rows, int64_t columns, int64_t largest) {
  SCOPED_TRACE(fmt::format("{}x{} largest {}", rows, columns, largest));
  OptionValues options(kSoap.options);
  ASSERT_TRUE(options.set("soap", "beta1", "0.9") && options.set("soap", "beta2", "0.8") &&
              options.set("soap", "interval", "2") && options.set("soap", "largest", std::to_string(largest)));
  OptimizerRun run(kSoap, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  Dense p(rows, columns, run.parameter()), m(rows, columns), v(rows, columns);
  std::vector<Side> sides;
  for (bool by_rows : {true, false})
    if (const int64_t n = by_rows ? rows : columns; n <= largest) sides.push_back({by_rows, Dense(n, n), Dense(n, n)});
  const auto take = [](Side& side, const Dense& g) {
    const Dense outer = side.rows ? g * transpose(g) : transpose(g) * g;
    for (size_t e = 0; e < outer.at.size(); ++e)
      side.covariance.at[e] = kBeta2 * side.covariance.at[e] + (1 - kBeta2) * outer.at[e];
  };
  const auto to = [&](Dense x) {
    for (const Side& side : sides) x = side.rows ? transpose(side.basis) * x : x * side.basis;
    return x;
  };
  for (int64_t t = 1; t <= 6; ++t) {
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, gradient);
    Dense g(rows, columns, gradient);
    for (double& x : g.at) x *= 0.5;
    if (t == 1) {
      for (Side& side : sides) {
        take(side, g);
        const int64_t n = side.covariance.rows;
        side.basis = Dense(n, n, run.state(side.rows ? "left_basis" : "right_basis"));
        expect_eigenvectors(side.covariance, side.basis);
      }
      EXPECT_EQ(run.parameter(), normals(count, 1, 0.1)) << "the first step moves nothing";
      continue;
    }
    const double moved = static_cast<double>(t - 1);
    for (size_t e = 0; e < count; ++e) m.at[e] = kBeta1 * m.at[e] + (1 - kBeta1) * g.at[e];
    const Dense turned = to(g), mean = to(m);
    Dense n(rows, columns);
    for (size_t e = 0; e < count; ++e) {
      v.at[e] = kBeta2 * v.at[e] + (1 - kBeta2) * turned.at[e] * turned.at[e];
      n.at[e] = mean.at[e] / (std::sqrt(v.at[e]) + kEpsilon);
    }
    for (const Side& side : sides) n = side.rows ? side.basis * n : n * transpose(side.basis);
    const double size = kRate * std::sqrt(1 - std::pow(kBeta2, moved)) / (1 - std::pow(kBeta1, moved));
    for (size_t e = 0; e < count; ++e) p.at[e] = (p.at[e] - size * n.at[e]) * (1 - kRate * kDecay);
    for (Side& side : sides) {
      take(side, g);
      if ((t - 1) % kInterval == 0) turn(side, v);
    }
    expect_near(run.parameter(), p.at, 2e-4);
  }
}

TEST(Soap, follows_its_algorithms) {
  follow(7, 5, 10000);
  follow(5, 9, 10000);
  follow(6, 11, 6);  // the larger side is left as it is
  follow(8, 4, 1);   // none is kept: AdamW with SOAP's first step
}

TEST(Soap, keeps_two_matrices_a_side) {
  OptimizerRun run(kSoap, OptionValues(kSoap.options), {"p", {12, 20}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (2 * 12 * 20 + 2 * 12 * 12 + 2 * 20 * 20));
}

}  // namespace
}  // namespace thimble
