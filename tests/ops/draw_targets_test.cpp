// Drawn targets: as often as the softmax says, over tiles of the vocabulary, and the same whatever a pass holds.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "core/random.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 6000, kWidth = 3, kVocab = 2600;  // three tiles, the last of them a part

// Rows that are alike have the same predictions: what differs is what they draw.
struct Head {
  std::vector<float> x, w;
  std::vector<int32_t> targets;
  std::vector<double> probabilities;

  Head() : x(kRows * kWidth, 1), w(kVocab * kWidth), targets(kRows, 0), probabilities(kVocab) {
    const Random random(7, "weights of a test");
    for (size_t i = 0; i < w.size(); ++i) w[i] = random.normal(i);
    double sum = 0;
    for (size_t v = 0; v < probabilities.size(); ++v)
      sum += probabilities[v] = std::exp(static_cast<double>(w[3 * v] + w[3 * v + 1] + w[3 * v + 2]));
    for (double& p : probabilities) p /= sum;
    for (size_t i = 3; i < targets.size(); i += 4) targets[i] = -1;
  }

  std::vector<int32_t> draw(int threads, int64_t first, int64_t count, uint64_t step) {
    Threads team(threads);
    RunContext context{team, Multiply::f32, 5, step, static_cast<uint64_t>(first)};
    const std::any attributes = DrawTargetsAttributes{.stream = 11};
    std::vector<int32_t> drawn(static_cast<size_t>(count));
    const auto bytes = [](auto& values) { return reinterpret_cast<std::byte*>(values.data()); };
    const Operand in[] = {{bytes(x) + 4 * first * kWidth, {count, kWidth}},
                          {bytes(w), {kVocab, kWidth}},
                          {bytes(targets) + 4 * first, {count}, &kI32},
                          {}};
    const Operand out[] = {{bytes(drawn), {count}, &kI32}};
    const std::vector<Type> types{{{count, kWidth}}, {{kVocab, kWidth}}, {{count}, &kI32}, {.codec = nullptr}},
        made{types[2]};
    std::vector<std::byte> workspace(
        static_cast<size_t>(kDrawTargets.workspace(attributes, types, made, Multiply::f32, threads)));
    kDrawTargets.run({attributes, in, out, workspace, context});
    return drawn;
  }
};

TEST(DrawTargets, follows_the_softmax) {
  Head head;
  const std::vector<int32_t> drawn = head.draw(2, 0, kRows, 0);
  // The most likely tokens one by one, the others together, tile by tile.
  std::vector<double> seen(kVocab);
  double rows = 0;
  for (size_t i = 0; i < drawn.size(); ++i) {
    ASSERT_EQ(drawn[i] < 0, head.targets[i] < 0) << "row " << i;
    if (drawn[i] >= 0) ++seen[static_cast<size_t>(drawn[i])], ++rows;
  }
  double squares = 0;
  int bins = 0;
  std::vector<double> rest_seen(3), rest(3);
  const auto take = [&](double count, double probability) {
    const double expected = rows * probability;
    squares += (count - expected) * (count - expected) / expected, ++bins;
  };
  for (size_t v = 0; v < seen.size(); ++v) {
    if (rows * head.probabilities[v] >= 8)
      take(seen[v], head.probabilities[v]);
    else
      rest_seen[v / 1152] += seen[v], rest[v / 1152] += head.probabilities[v];
  }
  for (size_t tile = 0; tile < 3; ++tile) take(rest_seen[tile], rest[tile]);
  EXPECT_GT(bins, 50);
  // Chi-square of so many bins: mean bins - 1, variance twice that.
  EXPECT_NEAR(squares, bins - 1, 4 * std::sqrt(2.0 * bins));
  EXPECT_NE(drawn, head.draw(2, 0, kRows, 1)) << "another step draws others";
}

TEST(DrawTargets, depends_on_neither_threads_nor_passes) {
  Head head;
  const std::vector<int32_t> whole = head.draw(1, 0, kRows, 0);
  EXPECT_EQ(head.draw(3, 0, kRows, 0), whole);
  const std::vector<int32_t> part = head.draw(2, 2048, 1024, 0);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 2048));
}

}  // namespace
}  // namespace thimble
