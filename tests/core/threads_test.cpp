#include "core/threads.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

TEST(Threads, split_covers_every_element_once) {
  for (int count : {1, 2, 3}) {
    Threads threads(count);
    for (int64_t total : {0, 1, 7, 64, 1000}) {
      std::vector<int> hits(total, 0);
      for (int repeat = 0; repeat < 50; ++repeat)
        threads.split(total, 8, [&](int64_t begin, int64_t end, int) {
          EXPECT_EQ(begin % 8, 0);
          for (int64_t i = begin; i < end; ++i) ++hits[i];
        });
      for (int hit : hits) EXPECT_EQ(hit, 50);
    }
  }
}

}  // namespace
}  // namespace thimble
