// choose_rows: how many rows, which, and that none is chosen by what comes behind it.
#include "ops/fewer_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/random.h"
#include "ops/reference_graph.h"

namespace thimble {
namespace {

using testing::ElementsAre;

struct Chosen {
  std::vector<int64_t> rows, starts, positions;
};

// Of one window: scores, and where each row's sequence starts.
Chosen choose(int64_t count, const std::vector<double>& scores, const std::vector<double>& starts) {
  const auto t = std::ssize(scores);
  Graph graph;
  const ValueId x = graph.add_value("scores", {{t, 1}}, Role::input);
  const ValueId s = graph.add_value("starts", {{t}, &kI32}, Role::input);
  const ValueId p = graph.add_value("positions", {{t}, &kI32}, Role::input);
  const auto out = graph.emit_all(kChooseRows, ChooseRowsAttributes{t, count}, {x, s, p}, "chosen");
  ReferenceValues values{{x, scores}, {s, starts}};
  for (size_t i = 0; i < starts.size(); ++i) values[p].push_back(static_cast<double>(i) - starts[i]);
  Threads threads(1);
  RunContext run{threads, Multiply::f32, 0, 0, 0};
  run_reference(graph, values, run);
  const auto whole = [&](ValueId id) { return std::vector<int64_t>(values.at(id).begin(), values.at(id).end()); };
  return {whole(out[0]), whole(out[1]), whole(out[2])};
}

std::vector<double> normal(int64_t count, uint64_t seed) {
  std::vector<double> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(double{Random(seed, "scores").normal(static_cast<uint64_t>(i))});
  return out;
}

TEST(ChooseRows, takes_so_many_in_order_and_mostly_the_best) {
  for (const int64_t count : {26, 128, 154, 230, 256}) {
    const std::vector<double> scores = normal(256, 7);
    const std::vector<int64_t> rows = choose(count, scores, std::vector<double>(256, 0)).rows;
    ASSERT_EQ(std::ssize(rows), count);
    EXPECT_TRUE(std::ranges::is_sorted(rows, std::less_equal()));
    EXPECT_EQ(rows.front(), 0) << "a sequence begins with its first row";
    std::vector<double> best = scores;
    std::ranges::sort(best, std::greater());
    double found = 0, most = 0;
    for (size_t i = 0; i < rows.size(); ++i) found += scores[static_cast<size_t>(rows[i])], most += best[i];
    if (count < 256) EXPECT_GT(found, 0.6 * most) << count;
  }
}

// Not what is chosen of rows before it, whatever its score and those behind it are.
TEST(ChooseRows, looks_at_no_later_row) {
  const std::vector<double> scores = normal(128, 3), zeros(128, 0);
  const std::vector<int64_t> expected = choose(70, scores, zeros).rows;
  for (const size_t from : {1, 40, 90, 127}) {
    for (const double later : {-9.0, 9.0}) {
      std::vector<double> other = scores;
      std::fill(other.begin() + static_cast<std::ptrdiff_t>(from), other.end(), later);
      const std::vector<int64_t> rows = choose(70, other, zeros).rows;
      const auto before = [&](const std::vector<int64_t>& all) {
        return std::vector<int64_t>(all.begin(), std::ranges::lower_bound(all, static_cast<int64_t>(from)));
      };
      EXPECT_EQ(before(rows), before(expected)) << from;
    }
  }
}

// Equal scores, as where there is no predictor: no stretch of rows has many more than its share.
TEST(ChooseRows, spreads_rows_evenly_where_scores_are_equal) {
  const std::vector<int64_t> rows = choose(96, std::vector<double>(160, 0), std::vector<double>(160, 0)).rows;
  for (int64_t first = 0; first < 160; first += 20) {
    const auto there = std::ranges::count_if(rows, [&](int64_t row) { return row >= first && row < first + 20; });
    EXPECT_GE(there, 9) << first;
    EXPECT_LE(there, 15) << first;
  }
}

// Two sequences and three rows that none uses, which come last; places of sequences are those of their chosen rows.
TEST(ChooseRows, knows_sequences_and_unused_rows) {
  const std::vector<double> starts{0, 0, 0, 3, 3, 3, 3, 7, 8, 9};
  const Chosen some = choose(5, {0, 5, -5, 0, -5, 5, 5, 9, 9, 9}, starts);
  EXPECT_THAT(some.rows, ElementsAre(0, 1, 3, 5, 6));
  EXPECT_THAT(some.starts, ElementsAre(0, 0, 2, 2, 2));
  EXPECT_THAT(some.positions, ElementsAre(0, 1, 0, 2, 3));
  EXPECT_THAT(choose(9, std::vector<double>(10, -1), starts).rows, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8));
}

}  // namespace
}  // namespace thimble
