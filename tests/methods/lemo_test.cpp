// LeMo: how predictors are fitted. What they are fitted to, and what blocks make of the rows that stay, is in
// tests/plan/lemo_test.cpp.
#include "methods/rewrites/lemo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/random.h"

namespace thimble {
namespace {

using testing::HasSubstr;

constexpr int64_t kFeatures = 4;

std::map<std::string, AdaptedModule> modules() {
  std::map<std::string, AdaptedModule> out;
  out["model.embed_tokens"].options = OptionValues(kLemo.options);
  EXPECT_TRUE(out["model.embed_tokens"].options.set("", "features", static_cast<double>(kFeatures)));
  return out;
}

// Moments of 200 tokens with y = f(z), in the order of lemo_moments.
template <class F>
std::vector<float> moments_of(const F& f) {
  const auto places = lemo_moments(kFeatures);
  std::vector<double> sums(places.size());
  for (uint64_t token = 0; token < 200; ++token) {
    std::vector<double> all;
    for (uint64_t i = 0; i < kFeatures; ++i) all.push_back(double{Random(5, "z").normal(4 * token + i)});
    const double y = f(all, double{Random(6, "noise").normal(token)});
    all.insert(all.end(), {1, y});
    for (size_t i = 0; i < places.size(); ++i)
      sums[i] += all[static_cast<size_t>(places[i].first)] * all[static_cast<size_t>(places[i].second)];
  }
  return {sums.begin(), sums.end()};
}

TEST(Lemo, fits_a_predictor_of_each_block_in_order) {
  auto spec = modules();
  const auto line = [](const std::vector<double>& z, double) { return 3 + 2 * z[0] - z[3]; };
  const auto noisy = [](const std::vector<double>& z, double noise) { return z[1] + noise; };
  const Settling::Measured measured{{"model.embed_tokens.lemo.10", moments_of(noisy)},
                                    {"model.embed_tokens.lemo.9", moments_of(line)}};
  const auto said = kLemo.settling->settle(measured, spec);
  ASSERT_TRUE(said) << said.error().message;
  EXPECT_THAT(*said, HasSubstr("2 predictors"));
  EXPECT_THAT(*said, HasSubstr("to 100 %"));
  const std::vector<double>& numbers = spec.begin()->second.options.list(kLemoPredictor);
  ASSERT_EQ(numbers.size(), 2 * (kFeatures + 1));
  for (const double number : numbers) EXPECT_EQ(number, std::round(number));
  // Of block 9: 2 z_0 - z_3 over its standard deviation, which is about the root of 5, without its mean.
  EXPECT_NEAR(numbers[0] * kLemoUnit, 2 / std::sqrt(5.0), 0.1);
  EXPECT_NEAR(numbers[3] / numbers[0], -0.5, 1e-2);
  EXPECT_NEAR(numbers[1] * kLemoUnit, 0, 1e-2);
  EXPECT_NEAR(numbers[4] * kLemoUnit, 0, 0.2) << "the 3 is no difference between tokens";
  EXPECT_GT(numbers[6], 0.8 / kLemoUnit) << "of block 10";
  EXPECT_EQ(kLemo.settling->windows(spec.begin()->second.options), 0) << "it is settled";
}

TEST(Lemo, fits_nothing_to_tokens_that_do_not_differ) {
  auto spec = modules();
  std::vector<float> equal(lemo_moments(kFeatures).size(), 200);
  const auto said = kLemo.settling->settle({{"model.embed_tokens.lemo.2", equal}}, spec);
  ASSERT_FALSE(said);
  EXPECT_THAT(said.error().message, HasSubstr("so uniform, text as the first windows"));
}

}  // namespace
}  // namespace thimble
