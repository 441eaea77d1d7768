#include "core/trace.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/threads.h"

namespace thimble {
namespace {

using Kind = Trace::Kind;

class TraceTest : public ::testing::Test {
 protected:
  void SetUp() override { active_trace = &trace; }
  void TearDown() override { active_trace = nullptr; }
  int64_t count(const Trace::Row& row, Kind kind) const {
    return std::ranges::count_if(row.spans, [&](const Trace::Span& span) { return span.kind == kind; });
  }
  Trace trace;
};

void work(Threads& threads) {
  const TracedOperation operation("some_operation");
  threads.each([](int) {});
  threads.each([](int) {});
}

// Every thread's part of every call, under the operation's name, one after another and inside the operation.
TEST_F(TraceTest, records_each_threads_part_of_calls) {
  for (const bool together : {false, true}) {
    trace = {};
    {
      Threads threads(3);
      if (together) threads.together([&] { work(threads); });
      if (!together) work(threads);
    }
    const auto rows = trace.rows();
    ASSERT_EQ(rows.size(), 3u);
    for (size_t thread = 0; thread < 3; ++thread) {
      SCOPED_TRACE(thread);
      EXPECT_EQ(count(rows[thread], Kind::work), 2);
      EXPECT_EQ(count(rows[thread], Kind::operation), thread == 0 || together);
      Trace::Clock::time_point last = Trace::Clock::time_point::min();
      for (const Trace::Span& span : rows[thread].spans) {
        EXPECT_LE(span.begin, span.end);
        if (span.kind != Kind::wait) EXPECT_EQ(span.name, "some_operation");
        if (span.kind != Kind::work) continue;
        EXPECT_GE(span.begin, last);
        last = span.end;
      }
    }
  }
}

TEST_F(TraceTest, keeps_the_last_spans) {
  Threads threads(1);
  const size_t more = 10;
  for (size_t i = 0; i < Trace::kSpans + more; ++i) TracedOperation(i < more ? "early" : "late");
  const auto rows = trace.rows();
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows[0].spans.size(), Trace::kSpans);
  EXPECT_EQ(rows[0].lost, more);
  EXPECT_EQ(rows[0].spans.front().name, "late");
}

}  // namespace
}  // namespace thimble
