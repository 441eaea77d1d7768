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

// Every thread goes through the whole work; calls of all kinds follow one another, the first thread's own in between,
// and see what those before have made, however long anybody takes.
TEST(Threads, together_meets_in_calls) {
  for (int count : {1, 2, 3}) {
    Threads threads(count);
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::vector<int64_t> a(1000, 0), b(1000, 0);
      int64_t sum = 0, shared = 0;
      threads.share(100, [](int64_t, int64_t, int) {});  // calls before it are counted too
      threads.together([&] {
        for (int round = 0; round < 30; ++round) {
          threads.once([&] { sum = 0; });
          threads.split(1000, 8, [&](int64_t begin, int64_t end, int thread) {
            if (thread == round % 3 && round % 7 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
            for (int64_t i = begin; i < end; ++i) a[i] = b[999 - i] + 1;
          });
          threads.share(1000, [&](int64_t begin, int64_t end, int thread) {
            if (thread == round % 2 && round % 5 == 0) std::this_thread::sleep_for(std::chrono::microseconds(100));
            for (int64_t i = begin; i < end; ++i) b[i] = a[999 - i];
          });
          threads.share(2, [&](int64_t begin, int64_t end, int) {
            for (int64_t i = begin; i < end; ++i) b[i] += round;
          });
          threads.once([&] { sum = std::accumulate(b.begin(), b.end(), int64_t{0}); });
          threads.each([&](int thread) {
            if (thread == count - 1) shared = sum;
          });
          threads.together([&] { threads.once([&] { shared += 1; }); });  // no deeper
        }
      });
      EXPECT_EQ(sum, 1000 * 30 + 29 * 30 / 2 * 2);
      EXPECT_EQ(shared, sum + 1);
    }
  }
}

// Others sleep when they have waited for long, in and between.
TEST(Threads, together_after_sleep) {
  Threads threads(3);
  std::vector<int> calls(3);
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    threads.together([&] {
      threads.once([] { std::this_thread::sleep_for(std::chrono::milliseconds(5)); });
      threads.each([&](int thread) { ++calls[thread]; });
    });
    threads.each([&](int thread) { ++calls[thread]; });
  }
  EXPECT_EQ(calls, std::vector(3, 6));
}

// What is read ahead is read only, and parts of no and of odd sizes are fine.
TEST(Threads, read_ahead_while_waiting) {
  const std::vector<std::byte> memory(3'000'001);
  Threads threads(3);
  std::vector<int> calls(3);
  threads.together([&] {
    for (size_t bytes : {memory.size(), size_t{1}, size_t{0}, size_t{100'000}})
      for (int i = 0; i < 50; ++i)
        threads.each([&](int thread) { ++calls[thread]; },
                     [&](int) {
                       return Threads::Ahead{std::span(memory).first(bytes), std::span(memory).last(bytes / 2)};
                     });
  });
  EXPECT_EQ(calls, std::vector(3, 200));
}

}  // namespace
}  // namespace thimble
