// coat: E4M3 against all of its values in double, and who gets which scale.
#include <cmath>

#include "codecs/e4m3.h"
#include "methods/kept_graph.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 6, kColumns = 32, kOut = 5;

// Every magnitude of the format, by its bits.
double magnitude(int q) {
  const int exponent = q >> 3, mantissa = q & 7;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

// The nearest; of two the one whose last bit is 0.
int nearest(double x) {
  int best = 0;
  for (int q = 1; q <= 0x7e; ++q) {
    const double by = std::abs(magnitude(q) - x) - std::abs(magnitude(best) - x);
    if (by < 0 || (by == 0 && q % 2 == 0)) best = q;
  }
  return best;
}

TEST(E4m3, is_the_nearest_of_all_its_values) {
  for (int q = 0; q <= 0x7e; ++q) {
    EXPECT_EQ(from_e4m3(static_cast<uint8_t>(q)), magnitude(q));
    EXPECT_EQ(to_e4m3(static_cast<float>(magnitude(q))), q);
    if (q == 0x7e) continue;
    const double gap = magnitude(q + 1) - magnitude(q);
    for (const double part : {0.25, 0.5, 0.75}) {
      const double x = magnitude(q) + part * gap;
      EXPECT_EQ(to_e4m3(static_cast<float>(x)), nearest(x)) << x;
    }
  }
}

TEST(Coat, weights_read_floats_of_one_scale) {
  KeptGraph g({kRows, kColumns}, {keeper_use(kCoat)},
              [](Graph& graph, ValueId x) { return linear_of(graph, x, kOut); });
  g.run();
  const std::vector<double>&x = g.at("a"), &dy = g.at("dy");
  double largest = 0;
  for (const double v : x) largest = std::max(largest, std::abs(v));
  const double scale = largest / 448;
  for (int64_t o = 0; o < kOut; ++o)
    for (int64_t j = 0; j < kColumns; ++j) {
      double expected = 0;
      for (int64_t i = 0; i < kRows; ++i) {
        const double v = x[static_cast<size_t>(i * kColumns + j)];
        expected +=
            dy[static_cast<size_t>(i * kOut + o)] * std::copysign(scale * magnitude(nearest(std::abs(v) / scale)), v);
      }
      EXPECT_NEAR(g.gradient("w")[static_cast<size_t>(o * kColumns + j)], expected, 1e-5);
    }
}

// x: a norm's, groups of 16 in 18 bytes; y: only of weights, a byte and one pair of bounds.
TEST(Coat, scales_are_as_fine_as_readers_need) {
  const KeptGraph g({kRows, kColumns}, {keeper_use(kCoat)}, [](Graph& graph, ValueId a) {
    const ValueId x = linear_of(graph, a, kColumns, "before");
    const ValueId gain = graph.add_value("gain", {{kColumns}}, Role::parameter);
    const ValueId y = graph.emit(kRmsNorm, NormAttributes{}, {x, gain}, "norm");
    return linear_of(graph, y, kOut);
  });
  const int64_t byte = kRows * kColumns + 8, groups = kRows * kColumns / 16 * 18;
  EXPECT_EQ(g.kept_bytes(), byte + groups + byte);  // of a, x, y
}

}  // namespace
}  // namespace thimble
