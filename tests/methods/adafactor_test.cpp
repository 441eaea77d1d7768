// Adafactor against its equations (torch.optim.Adafactor's form) in double.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kDecay = 0.1, kRate = 1e-2, kClip = 0.25;

void follow(int64_t rows, int64_t columns, bool matrix) {
  const Shape shape = matrix ? Shape{rows, columns} : Shape{columns};
  OptimizerRun run(kAdafactor, OptionValues(kAdafactor.options), {"p", shape, true}, kDecay);
  const auto count = static_cast<size_t>(shape.count());
  run.set_parameter(normals(count, 1, 0.1));
  Dense p(rows, columns, run.parameter());
  std::vector<double> r(static_cast<size_t>(rows)), c(static_cast<size_t>(columns)), v(count);
  const double eps1 = 0x1p-23, eps2 = 1e-3;
  for (int64_t t = 1; t <= 5; ++t) {
    const std::vector<float> gradient = normals(count, 10 + static_cast<uint64_t>(t), 1e-3);
    run.step(kRate, t, kClip, gradient);
    Dense g(rows, columns, gradient);
    for (double& x : g.at) x *= kClip;
    const double share = std::pow(static_cast<double>(t), -0.8);
    for (int64_t i = 0; i < rows; ++i) {
      double mean = 0;
      for (int64_t j = 0; j < columns; ++j) mean += g(i, j) * g(i, j) / static_cast<double>(columns);
      r[static_cast<size_t>(i)] += share * (mean - r[static_cast<size_t>(i)]);
    }
    for (int64_t j = 0; j < columns; ++j) {
      double mean = 0;
      for (int64_t i = 0; i < rows; ++i) mean += g(i, j) * g(i, j) / static_cast<double>(rows);
      c[static_cast<size_t>(j)] += share * (mean - c[static_cast<size_t>(j)]);
    }
    double mean_r = 0, squares = 0;
    for (double x : r) mean_r += x / static_cast<double>(rows);
    Dense u = g;
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j) {
        const auto e = static_cast<size_t>(i * columns + j);
        v[e] += share * (g(i, j) * g(i, j) - v[e]);
        const double second =
            matrix ? r[static_cast<size_t>(i)] * c[static_cast<size_t>(j)] / std::max(mean_r, eps1) : v[e];
        u(i, j) /= std::sqrt(std::max(second, eps1 * eps1));
        squares += u(i, j) * u(i, j);
      }
    const double all = static_cast<double>(count);
    const double alpha =
        std::max(eps2, p.norm() / std::sqrt(all)) * std::min(kRate, 1 / std::sqrt(static_cast<double>(t)));
    const double limit = std::max(1.0, std::sqrt(squares / all));
    for (size_t e = 0; e < count; ++e) p.at[e] = p.at[e] * (1 - kRate * kDecay) - alpha / limit * u.at[e];
  }
  expect_near(run.parameter(), p.at, 1e-5);
}

TEST(Adafactor, follows_its_equations) {
  follow(37, 23, true);
  follow(1, 61, false);
}

TEST(Adafactor, keeps_a_number_a_row_and_a_column) {
  OptimizerRun run(kAdafactor, OptionValues(kAdafactor.options), {"p", {300, 200}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (300 + 200));
}

}  // namespace
}  // namespace thimble
