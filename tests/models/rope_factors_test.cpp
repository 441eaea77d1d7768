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
