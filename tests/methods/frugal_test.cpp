// FRUGAL against its algorithm in double: which columns were chosen is seen by how they moved.
#include <algorithm>
#include <cmath>
#include <set>

#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 5, kColumns = 16, kChosen = 4, kInterval = 3;
constexpr double kRate = 1e-2, kDecay = 0.1, kFree = 0.5;

TEST(Frugal, follows_its_algorithm) {
  OptionValues options(kFrugal.options);
  ASSERT_TRUE(options.set("frugal", "interval", "3") && options.set("frugal", "free", "0.5"));
  OptimizerRun run(kFrugal, options, {"p", {kRows, kColumns}, true}, kDecay);
  constexpr size_t kCount = kRows * kColumns;
  run.set_parameter(normals(kCount, 1));
  Dense p(kRows, kColumns, run.parameter()), m(kRows, kColumns), v(kRows, kColumns);
  std::set<std::set<int64_t>> choices;
  std::set<int64_t> chosen;
  for (int64_t t = 1; t <= 9; ++t) {
    const std::vector<float> gradient = normals(kCount, 10 + static_cast<uint64_t>(t));
    run.step(kRate, t, 0.5, gradient);
    const Dense g(kRows, kColumns, gradient), moved(kRows, kColumns, run.parameter());
    const double since = static_cast<double>((t - 1) % kInterval + 1);
    if (since == 1) {
      // Adam's first step is one by the sign too, of twice the size of the others here.
      chosen.clear();
      for (int64_t j = 0; j < kColumns; ++j)
        if (std::abs(moved(0, j) - p(0, j) * (1 - kRate * kDecay)) > 0.75 * kRate) chosen.insert(j);
      ASSERT_EQ(chosen.size(), static_cast<size_t>(kChosen));
      choices.insert(chosen);
      m = v = Dense(kRows, kColumns);
    }
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t j = 0; j < kColumns; ++j) {
        const double x = 0.5 * g(i, j);
        double step = kFree * (x > 0 ? 1 : -1);
        if (chosen.contains(j)) {
          m(i, j) = 0.9 * m(i, j) + 0.1 * x, v(i, j) = 0.999 * v(i, j) + 0.001 * x * x;
          step = m(i, j) / (1 - std::pow(0.9, since)) / (std::sqrt(v(i, j) / (1 - std::pow(0.999, since))) + 1e-8);
        }
        p(i, j) = p(i, j) * (1 - kRate * kDecay) - kRate * step;
      }
    expect_near(run.parameter(), p.at, 1e-5);
  }
  EXPECT_GT(choices.size(), 1u) << "the choice should change";
}

TEST(Frugal, keeps_states_of_the_chosen_columns_alone) {
  OptimizerRun run(kFrugal, OptionValues(kFrugal.options), {"p", {128, 512}, true});
  EXPECT_EQ(run.state_bytes(), 4 * 2 * 128 * 128);
}

}  // namespace
}  // namespace thimble
