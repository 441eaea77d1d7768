// SST in double, from the vectors that it has drawn: their signs are free.
#include <cmath>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr double kDecay = 0.1, kClip = 0.5;

OptionValues options_with(int64_t rank, int64_t interval) {
  OptionValues options(kSst.options);
  EXPECT_TRUE(options.set("sst", "rank", static_cast<double>(rank)));
  EXPECT_TRUE(options.set("sst", "interval", static_cast<double>(interval)));
  return options;
}

// The vectors that were drawn and those that rest are a decomposition of W.
void expect_decomposition(OptimizerRun& run, const Dense& w, int64_t rank) {
  const int64_t rest = std::min(w.rows, w.columns) - rank;
  const Dense u(rank, w.rows, run.state("u")), v(rank, w.columns, run.state("v"));
  const Dense left(w.rows, rest, run.state("left")), right(rest, w.columns, run.state("right"));
  const std::vector<float> values = run.state("values");
  Dense sum(w.rows, w.columns);
  for (int64_t i = 0; i < w.rows; ++i)
    for (int64_t j = 0; j < w.columns; ++j)
      for (int64_t k = 0; k < rank; ++k) sum(i, j) += double{values[static_cast<size_t>(k)]} * u(k, i) * v(k, j);
  const Dense on = u * w, over = transpose(left) * w;
  for (int64_t k = 0; k < rest; ++k) {
    double value = 0;
    for (int64_t j = 0; j < w.columns; ++j) value += over(k, j) * right(k, j);
    for (int64_t i = 0; i < w.rows; ++i)
      for (int64_t j = 0; j < w.columns; ++j) sum(i, j) += value * left(i, k) * right(k, j);
  }
  for (int64_t k = 0; k < rank; ++k)
    for (int64_t j = 0; j < w.columns; ++j)
      EXPECT_NEAR(on(k, j), double{values[static_cast<size_t>(k)]} * v(k, j), 1e-5) << "u is no left singular vector";
  for (size_t e = 0; e < sum.at.size(); ++e) EXPECT_NEAR(sum.at[e], w.at[e], 5e-3);  // left and right are in bf16
}

void follow(int64_t rows, int64_t columns, int64_t rank) {
  SCOPED_TRACE(fmt::format("[{}, {}] rank {}", rows, columns, rank));
  OptimizerRun run(kSst, options_with(rank, 3), {"p", {rows, columns}, true}, kDecay);
  const auto count = static_cast<size_t>(rows * columns);
  run.set_parameter(normals(count, 1, 0.1));
  Dense w(rows, columns, run.parameter());
  const int64_t rest = std::min(rows, columns) - rank;
  for (int64_t first = 1; first <= 4; first += 3) {
    Dense u(rank, rows), v(rank, columns), left(rows, rest), right(rest, columns);
    std::vector<double> values;
    AdamMoments of_u(static_cast<size_t>(rank * rows)), of_v(static_cast<size_t>(rank * columns)),
        of_values(static_cast<size_t>(rank)), of_rest(static_cast<size_t>(rest));
    for (int64_t t = 1; t <= 3; ++t) {
      const double rate = t == 1 ? 0 : 1e-2;  // at first to see what was drawn
      const std::vector<float> gradient = normals(count, static_cast<uint64_t>(10 * (first + t)));
      run.step(rate, first - 1 + t, kClip, gradient);
      if (t == 1) {
        u = Dense(rank, rows, run.state("u")), v = Dense(rank, columns, run.state("v"));
        left = Dense(rows, rest, run.state("left")), right = Dense(rest, columns, run.state("right"));
        for (float value : run.state("values")) values.push_back(value);
        expect_decomposition(run, w, rank);
      }
      Dense g(rows, columns, gradient);
      for (double& x : g.at) x *= kClip;
      const Dense to_u = v * transpose(g), to_v = u * g, seen = g * transpose(right);
      Dense next(rows, columns);
      const auto add = [&](const double* x, const double* y, double by) {
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < columns; ++j) next(i, j) += by * x[i] * y[j];
      };
      for (int64_t k = 0; k < rank; ++k) {
        double* const x = &u(k, 0);
        double* const y = &v(k, 0);
        double of_value = 0, xx = 0, yy = 0;
        for (int64_t j = 0; j < columns; ++j) of_value += to_v(k, j) * y[j];
        add(x, y, -values[static_cast<size_t>(k)]);
        for (int64_t i = 0; i < rows; ++i)
          x[i] -= rate * of_u.step(static_cast<size_t>(k * rows + i), to_u(k, i), t), xx += x[i] * x[i];
        for (int64_t j = 0; j < columns; ++j)
          y[j] -= rate * of_v.step(static_cast<size_t>(k * columns + j), to_v(k, j), t), yy += y[j] * y[j];
        for (int64_t i = 0; i < rows; ++i) x[i] /= std::sqrt(xx);
        for (int64_t j = 0; j < columns; ++j) y[j] /= std::sqrt(yy);
        double& value = values[static_cast<size_t>(k)];
        value -= rate * of_values.step(static_cast<size_t>(k), of_value, t);
        add(x, y, value);
        value *= 1 - rate * kDecay;
      }
      for (int64_t k = 0; k < rest; ++k) {
        double of_value = 0;
        for (int64_t i = 0; i < rows; ++i) of_value += left(i, k) * seen(i, k);
        const double step = rate * of_rest.step(static_cast<size_t>(k), of_value, t);
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < columns; ++j) next(i, j) -= step * left(i, k) * right(k, j);
      }
      for (size_t e = 0; e < count; ++e) w.at[e] = (w.at[e] + next.at[e]) * (1 - rate * kDecay);
      expect_near(run.parameter(), w.at, 2e-5);
      expect_near(run.state("u"), u.at, 2e-5);
      expect_near(run.state("v"), v.at, 2e-5);
      expect_near(run.state("values"), values, 2e-5);
    }
  }
}

TEST(Sst, follows_its_algorithm) {
  follow(9, 20, 3);
  follow(20, 9, 3);
  follow(8, 8, 7);
}

// One vector of four a run, over many seeds: as often as its value is a part of their sum.
TEST(Sst, draws_vectors_in_proportion_to_their_values) {
  const double values[] = {4, 3, 2, 1};
  std::vector<float> w(16);
  for (size_t i = 0; i < 4; ++i) w[5 * i] = static_cast<float>(values[i]);
  int drawn[4] = {};
  constexpr int kRuns = 400;
  for (int seed = 0; seed < kRuns; ++seed) {
    OptimizerRun run(kSst, options_with(1, 10), {"p", {4, 4}, true});
    run.set_parameter(w);
    run.step(0, 1, -1, std::vector<float>(16, 1), static_cast<uint64_t>(seed));
    const float value = run.state("values")[0];
    for (size_t i = 0; i < 4; ++i) drawn[i] += std::abs(double{value} - values[i]) < 1e-3;
  }
  for (size_t i = 0; i < 4; ++i) {
    const double p = values[i] / 10, deviation = std::sqrt(p * (1 - p) / kRuns);
    EXPECT_NEAR(drawn[i] / double{kRuns}, p, 4 * deviation) << values[i];
  }
}

// A matrix of zeros, as an adapter's second factor begins, has vectors too.
TEST(Sst, moves_a_matrix_of_zeros) {
  OptimizerRun run(kSst, options_with(2, 10), {"p", {6, 8}, true});
  run.set_parameter(std::vector<float>(48, 0));
  for (int64_t t = 1; t <= 3; ++t) run.step(1e-2, t, -1, normals(48, static_cast<uint64_t>(t)));
  const Dense moved(6, 8, run.parameter());
  EXPECT_GT(moved.norm(), 1e-2);
}

TEST(Sst, keeps_few_vectors_in_full) {
  OptimizerRun run(kSst, options_with(16, 10), {"p", {128, 512}, true});
  EXPECT_EQ(run.state_bytes(), 4 * (3 * 16 * (128 + 512) + 2 * 128 + 16) + 2 * 112 * (128 + 512));
}

}  // namespace
}  // namespace thimble
