#include "models/rope_factors.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

TEST(RopeFactors, are_recognised) {
  for (double factor : {8.0, 32.0}) {
    for (int64_t head_dim : {64, 128}) {
      const RopeScaling scaling{.kind = RopeScaling::Kind::llama3, .factor = factor, .original_context = 8192};
      const auto factors = llama3_rope_factors(scaling, 500000, head_dim);
      EXPECT_EQ(factors.front(), 1);  // short waves stay
      EXPECT_EQ(factors.back(), factor);
      EXPECT_EQ(recognise_rope_factors(factors, 500000), scaling);
    }
  }
}

// Cases b34 and b34c of the field: what is written is read again, whatever context and range the model has.
TEST(RopeFactors, of_any_context_and_range_are_recognised) {
  for (const int64_t original : {1, 37, 64, 100, 6000, 8191, 1000000})
    for (const auto& [low, high] : {std::pair{1.0, 4.0}, {1.0, 2.5}, {0.5, 8.0}, {2.0, 3.0}})
      for (const int64_t head_dim : {8, 32, 128}) {
        const RopeScaling scaling{.kind = RopeScaling::Kind::llama3,
                                  .factor = 8,
                                  .original_context = original,
                                  .low_frequency_factor = low,
                                  .high_frequency_factor = high};
        const auto factors = llama3_rope_factors(scaling, 10000, head_dim);
        const auto found = recognise_rope_factors(factors, 10000);
        ASSERT_TRUE(found) << original << " " << low << " " << high << " " << head_dim;
        if (found->kind == RopeScaling::Kind::none) continue;
        const auto again = llama3_rope_factors(*found, 10000, head_dim);
        for (size_t i = 0; i < factors.size(); ++i) EXPECT_NEAR(again[i], factors[i], 1e-3 * factors[i]) << original;
        if (low == 1 && high == 4 && head_dim == 128 && original >= 37)
          EXPECT_NEAR(static_cast<double>(found->original_context), static_cast<double>(original),
                      1e-3 * static_cast<double>(original) + 1);
      }
}

TEST(RopeFactors, of_one_are_no_scaling) {
  EXPECT_EQ(recognise_rope_factors(std::vector<float>(32, 1), 10000)->kind, RopeScaling::Kind::none);
}

TEST(RopeFactors, of_another_kind_are_not_guessed) {
  std::vector<float> factors(32);
  for (size_t i = 0; i < factors.size(); ++i) factors[i] = 1 + static_cast<float>(i);
  EXPECT_FALSE(recognise_rope_factors(factors, 10000));
  EXPECT_FALSE(recognise_rope_factors(std::vector<float>(32, 0.5f), 10000));
}

}  // namespace
}  // namespace thimble
