// mesa: the equation in double over several steps, and that what is restored is what was kept, on average.
#include <cmath>

#include "methods/kept_graph.h"
#include "ops/keep.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 3, kColumns = 8, kGroup = 4, kOut = 5;

KeptGraph graph_with(std::vector<KeeperUse> uses) {
  return {{kRows, kColumns}, std::move(uses), [](Graph& g, ValueId x) { return linear_of(g, x, kOut); }};
}

// low and high of each group by the equation; `running` is moved on.
struct Bounds {
  std::vector<double> running, used;
};
void see(const std::vector<double>& x, double decay, Bounds& bounds) {
  std::vector<double> seen(2 * kColumns / kGroup, 0.0);
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t g = 2 * (i % kColumns / kGroup);
    seen[g] = std::max(seen[g], -x[i]), seen[g + 1] = std::max(seen[g + 1], x[i]);
  }
  bounds.used.resize(seen.size());
  for (size_t b = 0; b < seen.size(); ++b)
    bounds.used[b] = bounds.running[b] == 0 ? seen[b] : decay * bounds.running[b] + (1 - decay) * seen[b];
  bounds.running = bounds.used;  // a step of one granule
}

double restored(double x, double low, double high) {
  const double step = (high - low) / 255;
  return low + std::clamp(std::floor((x - low) / step + 0.5), 0.0, 255.0) * step;
}

TEST(Mesa, keeps_what_the_equation_says) {
  KeptGraph g = graph_with({keeper_use(kMesa, {{"group", kGroup}, {"stochastic", 0}})});
  Bounds bounds{std::vector<double>(2 * kColumns / kGroup, 0.0), {}};
  for (int step = 0; step < 4; ++step) {
    g.at("a") = KeptGraph::normal(fmt::format("a{}", step), kRows * kColumns);
    for (double& a : g.at("a")) a *= step == 2 ? 3 : 1;  // beyond the bounds: clipped
    const std::vector<double> a = g.at("a"), dy = g.at("dy");
    g.run(static_cast<uint64_t>(step));
    see(a, 0.9, bounds);
    for (size_t b = 0; b < bounds.running.size(); ++b)
      EXPECT_NEAR(g.at(g.states[0])[b], bounds.running[b], 1e-6) << "step " << step;
    for (int64_t o = 0; o < kOut; ++o)
      for (int64_t j = 0; j < kColumns; ++j) {
        double expected = 0, exact = 0;
        const size_t group = static_cast<size_t>(2 * (j / kGroup));
        for (int64_t i = 0; i < kRows; ++i) {
          const double x = a[static_cast<size_t>(i * kColumns + j)], d = dy[static_cast<size_t>(i * kOut + o)];
          expected += d * restored(x, -bounds.used[group], bounds.used[group + 1]), exact += d * x;
        }
        EXPECT_NEAR(g.gradient("w")[static_cast<size_t>(o * kColumns + j)], expected, 2e-5) << "step " << step;
        if (step == 0) EXPECT_NEAR(expected, exact, 0.1);
      }
  }
}

TEST(Mesa, keeps_a_byte_a_number_and_two_bounds_a_group) {
  const int64_t ranges = 2 * kColumns / kGroup * 4;
  EXPECT_EQ(graph_with({keeper_use(kMesa, {{"group", kGroup}})}).kept_bytes(), kRows * kColumns + ranges);
  EXPECT_EQ(graph_with({}).kept_bytes(), kRows * kColumns * 4);
}

// Every number between the bounds: the mean over many steps within four standard errors of it.
TEST(Mesa, rounds_by_chance_without_a_bias) {
  constexpr int kSteps = 4000;
  const ByteAttributes attributes{.group = kGroup, .stream = 5, .codec = &kF32, .columns = kColumns};
  std::vector<float> x(kRows * kColumns), out(x.size());
  for (size_t i = 0; i < x.size(); ++i) x[i] = Random(2, "x").uniform(i) - 0.5f;
  std::vector<float> ranges(2 * kColumns / kGroup, 0.5f), running(ranges.size(), 0.0f);
  std::vector<int32_t> words(kRows * kColumns / 4);
  std::vector<double> sum(x.size()), squares(x.size());
  Threads threads(1);
  std::vector<std::byte> workspace(4096);
  const std::any any = attributes;
  const auto bytes = [](auto& v) { return reinterpret_cast<std::byte*>(v.data()); };
  const Operand bounds{bytes(ranges), {1, static_cast<int64_t>(ranges.size())}}, known{bytes(running), {4}};
  const Operand kept{bytes(words), {kRows, kColumns / 4}, &kI32};
  const Operand from{bytes(x), {kRows, kColumns}}, to{bytes(out), {kRows, kColumns}};
  for (int step = 0; step < kSteps; ++step) {
    RunContext run{threads, Multiply::f32, 11, static_cast<uint64_t>(step), 512};
    const Operand write[] = {from, bounds, known}, read[] = {kept, bounds, known};
    kToBytes.run({any, write, {&kept, 1}, workspace, run});
    kFromBytes.run({any, read, {&to, 1}, workspace, run});
    for (size_t i = 0; i < x.size(); ++i) sum[i] += out[i], squares[i] += double{out[i]} * double{out[i]};
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const double mean = sum[i] / kSteps, variance = squares[i] / kSteps - mean * mean;
    EXPECT_NEAR(mean, x[i], 4 * std::sqrt(variance / kSteps) + 1.0 / 255 * 0x1p-16) << "element " << i;
    EXPECT_GT(variance, 0) << "element " << i;
  }
}

}  // namespace
}  // namespace thimble
