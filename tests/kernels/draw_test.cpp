#include "kernels/draw.h"

#include <gtest/gtest.h>

#include <vector>

namespace thimble {
namespace {

// At every instruction set level the test runs at, from any element on.
TEST(Draw, normal_numbers_are_those_of_each_element) {
  for (const Random random : {Random(1, "a"), Random(~0ull, ~0ull, ~0ull)})
    for (const uint64_t first : {uint64_t{0}, uint64_t{1}, uint64_t{31}, (uint64_t{1} << 33) - 3})
      for (const int64_t count : {0, 1, 2, 31, 32, 33, 100}) {
        std::vector<float> drawn(static_cast<size_t>(count) + 1, 7);
        draw_normal(random, first, count, drawn.data());
        for (int64_t i = 0; i < count; ++i)
          ASSERT_EQ(drawn[static_cast<size_t>(i)], random.normal(first + static_cast<uint64_t>(i)))
              << first << " " << i;
        EXPECT_EQ(drawn.back(), 7) << "written behind the end";
      }
}

}  // namespace
}  // namespace thimble
