// CAME against Algorithm 2 in double.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kRate = 1e-2, kDecay = 0.1, kClip = 0.25;

struct Means {
  std::vector<double> rows, columns;
  Means(int64_t m, int64_t n) : rows(static_cast<size_t>(m)), columns(static_cast<size_t>(n)) {}
  void take(const Dense& x, double beta, double epsilon) {
    for (double& r : rows) r *= beta;
    for (double& c : columns) c *= beta;
    for (int64_t i = 0; i < x.rows; ++i)
      for (int64_t j = 0; j < x.columns; ++j) {
        const double square = x(i, j) * x(i, j) + epsilon;
        rows[static_cast<size_t>(i)] += (1 - beta) * square / static_cast<double>(x.columns);
        columns[static_cast<size_t>(j)] += (1 - beta) * square / static_cast<double>(x.rows);
      }
  }
  double at(int64_t i, int64_t j) const {
    double mean = 0;
    for (double r : rows) mean += r / static_cast<double>(rows.size());
    return rows[static_cast<size_t>(i)] * columns[static_cast<size_t>(j)] / mean;
  }
};

TEST(Came, follows_its_algorithm_for_matrices) {
  OptimizerRun run(kCame, OptionValues(kCame.options), {"p", {13, 29}, true}, kDecay);
  run.set_parameter(normals(13 * 29, 1, 0.5));
  Dense p(13, 29, run.parameter()), m(13, 29);
  Means squares(13, 29), rest(13, 29);
  for (int64_t t = 1; t <= 5; ++t) {
    const std::vector<float> gradient = normals(13 * 29, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, kClip, gradient);
    Dense g(13, 29, gradient), u(13, 29), d(13, 29);
    for (double& x : g.at) x *= kClip;
    squares.take(g, 0.999, 1e-30);
    for (int64_t i = 0; i < 13; ++i)
      for (int64_t j = 0; j < 29; ++j) u(i, j) = g(i, j) / std::sqrt(squares.at(i, j));
    const double long_by = std::max(1.0, u.norm() / std::sqrt(13.0 * 29.0));
    for (size_t e = 0; e < u.at.size(); ++e) {
      u.at[e] /= long_by;
      m.at[e] = 0.9 * m.at[e] + 0.1 * u.at[e];
      d.at[e] = u.at[e] - m.at[e];
    }
    rest.take(d, 0.9999, 1e-16);
    for (int64_t i = 0; i < 13; ++i)
      for (int64_t j = 0; j < 29; ++j)
        p(i, j) = p(i, j) * (1 - kRate * kDecay) - kRate * m(i, j) / std::sqrt(rest.at(i, j));
    expect_near(run.parameter(), p.at, 2e-5);
  }
  EXPECT_EQ(run.state_bytes(), 4 * (13 * 29 + 2 * (13 + 29)));
}

TEST(Came, keeps_whole_squares_of_vectors) {
  OptimizerRun run(kCame, OptionValues(kCame.options), {"p", {17}, true}, kDecay);
  run.set_parameter(normals(17, 1));
  std::vector<float> begun = run.parameter();
  std::vector<double> p(begun.begin(), begun.end()), m(17), v(17);
  for (int64_t t = 1; t <= 4; ++t) {
    const std::vector<float> g = normals(17, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, -1, g);
    std::vector<double> u(17);
    double length = 0;
    for (size_t e = 0; e < 17; ++e) {
      v[e] = 0.999 * v[e] + 0.001 * (double{g[e]} * double{g[e]} + 1e-30);
      u[e] = double{g[e]} / std::sqrt(v[e]);
      length += u[e] * u[e];
    }
    for (size_t e = 0; e < 17; ++e) {
      m[e] = 0.9 * m[e] + 0.1 * u[e] / std::max(1.0, std::sqrt(length / 17));
      p[e] = p[e] * (1 - kRate * kDecay) - kRate * m[e];
    }
  }
  expect_near(run.parameter(), p, 1e-5);
}

}  // namespace
}  // namespace thimble
