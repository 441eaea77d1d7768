// few_bit and approx_bp: the gradients that the step functions give, in double; that the steps are the best ones, and
// what waits.
#include <cmath>
#include <numbers>

#include "methods/keepers/few_bit_tables.h"
#include "methods/kept_graph.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 6, kColumns = 40, kOut = 5;

KeptGraph activated(std::vector<KeeperUse> uses, Activation f, bool gated) {
  return {{kRows, kColumns}, std::move(uses), [&](Graph& g, ValueId x) {
            const ValueId gate = linear_of(g, x, kColumns, "gate");
            const ValueId up = gated ? linear_of(g, x, kColumns, "up") : kNone;
            const ValueId y = g.emit(kActivation, ActivationAttributes{f}, {gate, up}, "act");
            return linear_of(g, y, kOut);
          }};
}

double silu(double x) { return x / (1 + std::exp(-x)); }
double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2)); }
double slope(double (*f)(double), double x) { return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5; }

double level(const StepSlope& s, double x) {
  const auto below = std::count_if(s.edges.begin(), s.edges.end(), [&](double edge) { return x > edge; });
  return s.levels[static_cast<size_t>(below)];
}

// d gate^T of a graph, from dy W as the linear behind the activation hands it down.
std::vector<double> expected_gate(KeptGraph& g, const std::function<double(double)>& slope_at, bool gated) {
  const std::vector<double>&x = g.at("a"), &dy = g.at("dy"), &w = g.at("w"), &gate = g.at("y.gate");
  std::vector<double> out(kColumns * kColumns, 0.0);
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t j = 0; j < kColumns; ++j) {
      double d = 0;
      for (int64_t o = 0; o < kOut; ++o) d += dy[size_t(i * kOut + o)] * w[size_t(o * kColumns + j)];
      d *= slope_at(gate[size_t(i * kColumns + j)]) * (gated ? g.at("y.up")[size_t(i * kColumns + j)] : 1.0);
      for (int64_t k = 0; k < kColumns; ++k) out[size_t(j * kColumns + k)] += d * x[size_t(i * kColumns + k)];
    }
  return out;
}

TEST(FewBit, gradients_are_those_of_the_step_function) {
  for (const bool gated : {false, true})
    for (const int bits : {2, 3, 4}) {
      SCOPED_TRACE(fmt::format("{} bits, gated {}", bits, gated));
      KeptGraph g = activated({keeper_use(kFewBit, {{"bits", bits}})}, Activation::silu, gated);
      KeptGraph exact = activated({}, Activation::silu, gated);
      g.run(), exact.run();
      EXPECT_EQ(g.at("y.w"), exact.at("y.w")) << "the forward pass is exact";
      const StepSlope& s = kSiluSlopes[bits - 2];
      const std::vector<double> expected = expected_gate(
          g, [&](double x) { return level(s, x); }, gated);
      for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(g.gradient("gate")[i], expected[i], 1e-5) << i;
      for (const char* other : {"w", "up"})
        for (size_t i = 0; (gated || *other == 'w') && i < g.gradient(other).size(); ++i)
          EXPECT_NEAR(g.gradient(other)[i], exact.gradient(other)[i], 1e-9) << other;
    }
}

TEST(ApproxBp, gradients_are_those_of_three_relus) {
  for (const auto& [f, a, c] : {std::tuple{Activation::gelu, std::array{-0.04922261, 1.09796321, -0.0487406},
                                           std::array{-3.185881, -0.00117882, 3.19083261}},
                                {Activation::silu, std::array{-0.04060357, 1.08092543, -0.04032186},
                                 std::array{-6.3050461, -0.00086849, 6.32581524}}}) {
    KeptGraph g = activated({keeper_use(kApproxBp)}, f, false);
    g.at("a") = KeptGraph::normal("wide", kRows * kColumns);
    g.run();
    const auto slope_at = [&a = a, &c = c](double x) {
      double sum = 0;
      for (size_t i = 0; i < 3; ++i) sum += x > c[i] ? a[i] : 0;
      return sum;
    };
    const std::vector<double> expected = expected_gate(g, slope_at, false);
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(g.gradient("gate")[i], expected[i], 2e-4) << i;
  }
}

// The integral of (f' - q)^2, which moving any edge or level makes larger, and which bits make less.
double error_of(double (*f)(double), const StepSlope& s) {
  double sum = 0;
  for (double x = -15; x < 15; x += 5e-3) sum += std::pow(slope(f, x) - level(s, x), 2) * 5e-3;
  return sum;
}

TEST(FewBit, steps_are_the_best_ones) {
  for (double (*f)(double) : {silu, gelu}) {
    const auto& tables = f == silu ? kSiluSlopes : kGeluSlopes;
    double coarser = 1;
    for (const StepSlope& s : tables) {
      ASSERT_EQ(s.levels.size(), size_t{1} << s.bits);
      const double least = error_of(f, s);
      EXPECT_LT(least, 0.4 * coarser) << s.bits << " bits";
      coarser = least;
      for (size_t i = 0; i + 1 < s.levels.size(); ++i)
        for (const float by : {-0.05f, 0.05f}) {
          StepSlope moved = s;
          moved.edges[i] += by;
          EXPECT_GT(error_of(f, moved), least) << s.bits << " bits, edge " << i;
          moved = s;
          moved.levels[i] += by;
          EXPECT_GT(error_of(f, moved), least) << s.bits << " bits, level " << i;
        }
    }
  }
}

TEST(FewBit, keeps_bits_in_place_of_the_gate) {
  const int64_t number = kRows * kColumns * 4, words = 4 * kRows;
  const auto bytes = [](std::vector<KeeperUse> uses, bool gated) {
    return activated(std::move(uses), Activation::gelu, gated).kept_bytes();
  };
  EXPECT_EQ(bytes({}, false), 3 * number);  // x, gate, y
  EXPECT_EQ(bytes({keeper_use(kFewBit)}, false), 2 * number + kColumns / 8 * words);
  EXPECT_EQ(bytes({keeper_use(kApproxBp)}, false), 2 * number + (kColumns + 15) / 16 * words);
  EXPECT_EQ(bytes({}, true), 4 * number);  // x, gate, up, y
  EXPECT_EQ(bytes({keeper_use(kFewBit, {{"bits", 2}})}, true), 3 * number + (kColumns + 15) / 16 * words);
}

}  // namespace
}  // namespace thimble
