#include "core/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "core/normal_pair.h"

namespace thimble {
namespace {

// Known answers of Philox4x32-10 from Random123's kat_vectors.
TEST(Random, philox_known_answers) {
  EXPECT_EQ(philox(0, 0, 0), (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

// The transform in double by the C library.
TEST(Random, normal_is_box_and_mullers) {
  const auto expect_pair = [](uint32_t a, uint32_t b) {
    const double radius = std::sqrt(-2 * std::log((a + 1.0) * 0x1p-32)), angle = 2 * std::numbers::pi * b * 0x1p-32;
    const NormalPair pair = normal_pair(a, b);
    EXPECT_NEAR(pair.first, radius * std::cos(angle), 1e-7 * std::abs(radius * std::cos(angle)) + 4e-15)
        << a << " " << b;
    EXPECT_NEAR(pair.second, radius * std::sin(angle), 1e-7 * std::abs(radius * std::sin(angle)) + 4e-15)
        << a << " " << b;
  };
  for (const uint32_t a : {0u, 1u, 0x7fffffffu, 0x80000000u, 0xb504f333u, ~0u})
    for (uint32_t eighth = 0; eighth < 8; ++eighth)
      for (const uint32_t more : {0u, 1u, ~0u}) expect_pair(a, (eighth << 29) + more);
  for (uint64_t i = 0; i < 20000; ++i) {
    const auto words = philox(7, i, 0);
    expect_pair(words[0], words[1]);
  }
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
