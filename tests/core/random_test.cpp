#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace thimble {
namespace {

// Known answers of Philox4x32-10 from Random123's kat_vectors.
TEST(Random, philox_known_answers) {
  EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Random, normal_has_unit_variance) {
  const Random random(1, "test");
  double sum = 0, squares = 0;
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const double x = random.normal(i);
    sum += x, squares += x * x;
  }
  EXPECT_NEAR(sum / n, 0, 0.03);
  EXPECT_NEAR(squares / n, 1, 0.05);
}

}  // namespace
}  // namespace thimble
