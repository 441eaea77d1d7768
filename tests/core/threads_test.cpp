#include "core/threads.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

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

// However long a part takes.
TEST(Threads, share_covers_every_element_once) {
  for (int count : {1, 2, 3}) {
    Threads threads(count);
    for (int64_t total : {0, 1, 2, 7, 1000}) {
      std::vector<int> hits(total, 0), of_thread(count, 0);
      for (int repeat = 0; repeat < 50; ++repeat)
        threads.share(total, [&](int64_t begin, int64_t end, int thread) {
          for (int64_t i = begin; i < end; ++i) ++hits[i];
          of_thread[thread] += static_cast<int>(end - begin);
          if (thread == repeat % count) std::this_thread::sleep_for(std::chrono::microseconds(100));
        });
      for (int hit : hits) EXPECT_EQ(hit, 50);
      EXPECT_EQ(std::accumulate(of_thread.begin(), of_thread.end(), int64_t{0}), 50 * total);
    }
  }
}

// Calls follow each other however far the others have read, and parts of no and of odd sizes are fine.
TEST(Threads, read_ahead_while_waiting) {
  const std::vector<std::byte> memory(3'000'001);
  Threads threads(3);
  std::vector<int> calls(3);
  for (size_t bytes : {memory.size(), size_t{1}, size_t{0}, size_t{100'000}}) {
    threads.read_ahead({std::span(memory).first(bytes), std::span(memory).last(bytes / 2)});
    for (int i = 0; i < 50; ++i) threads.each([&](int thread) { ++calls[thread]; });
  }
  EXPECT_EQ(calls, std::vector(3, 200));
}

}  // namespace
}  // namespace thimble
