// GradNormLoRP in double, on the bases that it has taken; galore's test asks how they are found.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

void follow(int64_t rows, int64_t columns, int64_t rank) {
  SCOPED_TRACE(fmt::format("[{}, {}] rank {}", rows, columns, rank));
  constexpr double kRate = 1e-2, kDecay = 0.1, kClip = 0.5;
  OptionValues options(kGradNormLorp.options);
  ASSERT_TRUE(options.set("grad_norm_lorp", "rank", static_cast<double>(rank)));
  ASSERT_TRUE(options.set("grad_norm_lorp", "interval", 2.0));
  OptimizerRun run(kGradNormLorp, options, {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  Dense w(rows, columns, run.parameter());
  const bool wide = rows < columns;
  const int64_t side = std::min(rows, columns), other = std::max(rows, columns);
  AdamMoments of_low(static_cast<size_t>(rank * other), 1e-6), of_lengths(static_cast<size_t>(rows), 1e-6);
  for (int64_t t = 1; t <= 4; ++t) {
    const std::vector<float> gradient = normals(count, 10 * static_cast<uint64_t>(t));
    run.step(kRate, t, kClip, gradient);
    const Dense basis(side, rank, run.state("basis"));
    const Dense gram = transpose(basis) * basis;
    for (int64_t i = 0; i < rank; ++i)
      for (int64_t j = 0; j < rank; ++j) ASSERT_NEAR(gram(i, j), i == j, 1e-5);
    std::vector<double> length(static_cast<size_t>(rows)), along(length.size());
    Dense d(rows, columns), of_direction(rows, columns);
    for (int64_t i = 0; i < rows; ++i) {
      double squares = 0, sum = 0;
      for (int64_t j = 0; j < columns; ++j) {
        const double g = kClip * static_cast<double>(gradient[static_cast<size_t>(i * columns + j)]);
        squares += w(i, j) * w(i, j), sum += w(i, j) * g;
      }
      const auto at = static_cast<size_t>(i);
      length[at] = std::sqrt(squares), along[at] = sum / length[at];
      for (int64_t j = 0; j < columns; ++j) {
        const double g = kClip * static_cast<double>(gradient[static_cast<size_t>(i * columns + j)]);
        d(i, j) = w(i, j) / length[at];
        of_direction(i, j) = length[at] * (g - along[at] * d(i, j));
      }
    }
    Dense low = transpose(basis) * (wide ? of_direction : transpose(of_direction));
    for (size_t e = 0; e < low.at.size(); ++e) {
      // A projection of a tall matrix lies transposed in memory; moments are by element all the same.
      low.at[e] = of_low.step(e, low.at[e], t);
    }
    Dense back = basis * low;
    if (!wide) back = transpose(back);
    for (int64_t i = 0; i < rows; ++i) {
      const auto at = static_cast<size_t>(i);
      double squares = 0;
      for (int64_t j = 0; j < columns; ++j) d(i, j) -= kRate * 0.25 * back(i, j), squares += d(i, j) * d(i, j);
      const double now = length[at] - kRate * of_lengths.step(at, along[at], t);
      for (int64_t j = 0; j < columns; ++j) w(i, j) = (1 - kRate * kDecay) * now * d(i, j) / std::sqrt(squares);
    }
  }
  expect_near(run.parameter(), w.at, 1e-4);
}

TEST(GradNormLorp, follows_its_algorithm) {
  follow(12, 30, 4);
  follow(30, 12, 4);
  follow(10, 25, 10);  // the whole side
}

TEST(GradNormLorp, keeps_projections_and_lengths) {
  OptimizerRun run(kGradNormLorp, OptionValues(kGradNormLorp.options), {"p", {128, 512}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (32 * (2 * 512 + 128) + 2 * 128));
}

}  // namespace
}  // namespace thimble
