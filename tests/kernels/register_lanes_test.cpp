#include "kernels/register_lanes.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "core/half.h"

namespace thimble {
namespace {

using Sixteen = std::array<float, 16>;

// Of each width of registers, all of which the compiler makes of what this build's have.
template <class Width>
class RegisterLanesTest : public testing::Test {
 public:
  using In = RegisterLanes<Width::value>;
  static In made(const Sixteen& x) { return load<In>(x.data()); }
  static Sixteen numbers(const In& x) {
    Sixteen all;
    store(x, all.data());
    return all;
  }
};
using Widths =
    testing::Types<std::integral_constant<int, 16>, std::integral_constant<int, 32>, std::integral_constant<int, 64>>;
TYPED_TEST_SUITE(RegisterLanesTest, Widths);

Sixteen some(float from) {
  Sixteen all;
  for (size_t i = 0; i < 16; ++i) all[i] = std::sin(from + static_cast<float>(i)) * 3;
  return all;
}

// As dot() of rows.h folds its lanes.
float folded(Sixteen lanes) {
  for (size_t width = 8; width > 0; width /= 2)
    for (size_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

TYPED_TEST(RegisterLanesTest, arithmetic_is_that_of_each_lane) {
  const Sixteen a = some(1), b = some(2);
  const auto x = this->made(a), y = this->made(b);
  const Sixteen sum = this->numbers(x + y), difference = this->numbers(x - y), product = this->numbers(x * y),
                scaled = this->numbers(x * -0.5f + 2), least = this->numbers(at_most(x, y)),
                most = this->numbers(at_least(x, y));
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(sum[i], a[i] + b[i]);
    EXPECT_EQ(difference[i], a[i] - b[i]);
    EXPECT_EQ(product[i], a[i] * b[i]);
    EXPECT_EQ(scaled[i], a[i] * -0.5f + 2);
    EXPECT_EQ(least[i], std::min(a[i], b[i]));
    EXPECT_EQ(most[i], std::max(a[i], b[i]));
  }
}

TYPED_TEST(RegisterLanesTest, folds_as_rows_do) {
  RegisterLanes<TypeParam::value> sums[16];
  for (int i = 0; i < 16; ++i) {
    const Sixteen lanes = some(static_cast<float>(i));
    sums[i] = this->made(lanes);
    EXPECT_EQ(fold(sums[i]), folded(lanes));
    EXPECT_EQ(largest_lane(sums[i]), *std::max_element(lanes.begin(), lanes.end()));
  }
  const Sixteen all = this->numbers(fold_all(sums));
  for (size_t i = 0; i < 16; ++i) EXPECT_EQ(all[i], folded(some(static_cast<float>(i)))) << i;
}

TYPED_TEST(RegisterLanesTest, pairs_are_taken_apart_and_put_together) {
  std::array<uint16_t, 32> bf16;
  for (size_t i = 0; i < 32; ++i) bf16[i] = f32_to_bf16(static_cast<float>(i));
  const auto pair = pair_of(load<RegisterWords<TypeParam::value>>(bf16.data()));
  const Sixteen even = this->numbers(pair.even), odd = this->numbers(pair.odd);
  std::array<float, 32> again;
  interleave(pair, again.data());
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(even[i], static_cast<float>(2 * i));
    EXPECT_EQ(odd[i], static_cast<float>(2 * i + 1));
  }
  for (size_t i = 0; i < 32; ++i) EXPECT_EQ(again[i], static_cast<float>(i));
}

TYPED_TEST(RegisterLanesTest, rounds_to_bf16) {
  const Sixteen from = some(5), to = this->numbers(rounded(this->made(from)));
  std::array<uint16_t, 16> bf16;
  store_bf16(this->made(from), bf16.data());
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(bf16[i], f32_to_bf16(from[i]));
    EXPECT_EQ(to[i], bf16_to_f32(bf16[i]));
  }
}

TYPED_TEST(RegisterLanesTest, looks_up_by_the_lowest_bits_of_bytes) {
  const Sixteen levels = some(7);
  std::array<std::byte, 16> bytes;
  for (size_t i = 0; i < 16; ++i) bytes[i] = std::byte(37 * i + 11);
  const auto words = load_bytes<TypeParam::value>(bytes.data());
  const Sixteen low = this->numbers(look_up<TypeParam::value>(levels, words)),
                high = this->numbers(look_up<TypeParam::value>(levels, words >> 4));
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(low[i], levels[std::to_integer<size_t>(bytes[i] & std::byte{15})]);
    EXPECT_EQ(high[i], levels[std::to_integer<size_t>(bytes[i] >> 4)]);
  }
}

TYPED_TEST(RegisterLanesTest, exp2_is_close) {
  for (float x = -130; x < 127; x += 0.0625f * 16) {
    Sixteen from;
    for (size_t i = 0; i < 16; ++i) from[i] = x + 0.0625f * static_cast<float>(i);
    const Sixteen to = this->numbers(exp2_lanes(this->made(from)));
    for (size_t i = 0; i < 16; ++i) {
      const double expected = from[i] <= -127 ? 0 : std::exp2(static_cast<double>(from[i]));
      ASSERT_NEAR(to[i], expected, 3e-7 * expected + (from[i] < -126 ? 2e-38 : 0)) << from[i];
    }
  }
}

}  // namespace
}  // namespace thimble
