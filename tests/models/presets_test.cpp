#include "models/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thimble {
namespace {

using ::testing::HasSubstr;

TEST(ParseSize, takes_suffixes) {
  EXPECT_EQ(*parse_size("15M"), 15'000'000);
  EXPECT_EQ(*parse_size("1.5b"), 1'500'000'000);
  EXPECT_EQ(*parse_size("800K"), 800'000);
  EXPECT_EQ(*parse_size("12345"), 12345);
  for (const char* wrong : {"", "M", "-5M", "5X", "5MM", "nan", "inf", "1e9", "0", "999999B", " 5M"}) {
    ASSERT_FALSE(parse_size(wrong)) << wrong;
    EXPECT_THAT(parse_size(wrong).error().message, HasSubstr("15M or 1.5B"));
  }
}

TEST(Preset, comes_near_the_size_asked_for) {
  for (const char* size : {"1M", "5M", "15M", "60M", "135M", "350M", "1B", "7B"}) {
    for (int64_t vocab : {512, 4096, 49152}) {
      const int64_t aim = *parse_size(size);
      if (vocab * 64 > aim) continue;
      SCOPED_TRACE(fmt::format("{} with {} tokens", size, vocab));
      const auto a = preset(aim, vocab);
      ASSERT_TRUE(a) << a.error().message;
      ASSERT_TRUE(check(*a, "preset"));
      EXPECT_NEAR(static_cast<double>(parameter_count(*a)) / static_cast<double>(aim), 1, 0.08);
      EXPECT_EQ(a->blocks[0].ffn.width % 64, 0);
      EXPECT_EQ(a->blocks[0].attention.q_width(), a->width);
      EXPECT_EQ(*preset(aim, vocab), *a);
      ::testing::Test::RecordProperty(fmt::format("{}_{}", size, vocab), fmt::format("{} x {}", a->layers(), a->width));
    }
  }
}

TEST(Preset, refuses_nonsense) {
  EXPECT_FALSE(preset(0, 100));
  EXPECT_FALSE(preset(1'000'000, 0));
  EXPECT_FALSE(preset(1'000'000, 100, -1));
}

}  // namespace
}  // namespace thimble
