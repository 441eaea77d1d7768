// Pruning and rounding with error feedback, beyond what the contract test says of every operation.
#include "ops/transform.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/half.h"
#include "core/random.h"

namespace thimble {
namespace {

std::vector<float> normal(int64_t count, uint64_t stream) {
  const Random random(7, stream, 0);
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = random.normal(i);
  return out;
}

std::byte* bytes_of(auto& values) { return reinterpret_cast<std::byte*>(values.data()); }

// Runs an operation; `out` has the bytes of its first output, `order` those of the second or of nothing.
void call(const Op& op, const std::any& attributes, std::vector<Operand> in, std::vector<Operand> out, int threads) {
  Threads team(threads);
  RunContext run{team, Multiply::f32, 0, 0, 0};
  std::vector<Type> types, results;
  for (const Operand& o : in) types.push_back({o.shape, o ? o.codec : nullptr});
  for (const Operand& o : out) results.push_back({o.shape, o.codec});
  std::vector<std::byte> workspace(
      static_cast<size_t>(op.workspace(attributes, types, results, Multiply::f32, threads)));
  op.run({attributes, in, out, workspace, run});
}

// x [rows, n] with columns that follow each other, so that errors can be made up for.
std::vector<float> correlated(int64_t rows, int64_t n, float along) {
  std::vector<float> x = normal(rows * n, 3);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t j = 1; j < n; ++j) x[static_cast<size_t>(r * n + j)] += along * x[static_cast<size_t>(r * n + j - 1)];
  return x;
}

std::vector<float> gram(const std::vector<float>& x, int64_t rows, int64_t n) {
  std::vector<float> h(static_cast<size_t>(n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < rows; ++r)
        sum += double{x[static_cast<size_t>(r * n + i)]} * double{x[static_cast<size_t>(r * n + j)]};
      h[static_cast<size_t>(i * n + j)] = static_cast<float>(sum);
    }
  return h;
}

struct Rounded {
  std::vector<std::byte> bytes;
  std::vector<float> numbers;
};

Rounded gptq(const Codec& codec, std::vector<float> w, std::vector<float> h, int64_t m, int64_t n, bool descending,
             int threads = 2) {
  std::vector<float> u(static_cast<size_t>(n * n));
  std::vector<int32_t> order(static_cast<size_t>(n));
  call(kInverseFactor, InverseFactorAttributes{0.01, descending}, {{bytes_of(h), {n, n}}},
       {{bytes_of(u), {n, n}}, {bytes_of(order), {n}, &kI32}}, threads);
  Rounded out{std::vector<std::byte>(static_cast<size_t>(m * codec.bytes(n))), w};
  call(kRoundColumns, RoundColumnsAttributes{&codec},
       {{bytes_of(w), {m, n}}, {bytes_of(u), {n, n}}, descending ? Operand{bytes_of(order), {n}, &kI32} : Operand{}},
       {{out.bytes.data(), {m, n}, &codec}}, threads);
  codec.decode(out.bytes.data(), out.numbers.data(), m * n);
  return out;
}

// sum over rows of |x (w - q)^T|^2.
double output_error(const std::vector<float>& w, const std::vector<float>& q, const std::vector<float>& x, int64_t m,
                    int64_t n) {
  double error = 0;
  const auto rows = static_cast<int64_t>(x.size()) / n;
  for (int64_t i = 0; i < m; ++i)
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t j = 0; j < n; ++j) {
        const auto e = static_cast<size_t>(i * n + j);
        sum += (double{w[e]} - double{q[e]}) * double{x[static_cast<size_t>(r * n + j)]};
      }
      error += sum * sum;
    }
  return error;
}

std::vector<float> nearest(const Codec& codec, const std::vector<float>& w) {
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes(static_cast<int64_t>(w.size()))));
  std::vector<float> out(w.size());
  codec.encode(w.data(), bytes.data(), static_cast<int64_t>(w.size()));
  codec.decode(bytes.data(), out.data(), static_cast<int64_t>(w.size()));
  return out;
}

constexpr int64_t kM = 24, kN = 96, kRows = 400;
constexpr const Codec* kCodecs[] = {&kQ4_0, &kQ4_1, &kQ5_0, &kQ5_1};

TEST(RoundColumns, error_is_lower_than_nearest_on_correlated_inputs) {
  const std::vector<float> w = normal(kM * kN, 1), x = correlated(kRows, kN, 0.9f), h = gram(x, kRows, kN);
  for (const Codec* codec : kCodecs)
    for (bool descending : {false, true}) {
      const double ours = output_error(w, gptq(*codec, w, h, kM, kN, descending).numbers, x, kM, kN),
                   plain = output_error(w, nearest(*codec, w), x, kM, kN);
      EXPECT_LT(ours, 0.6 * plain) << codec->name << (descending ? " descending" : "");
    }
}

TEST(RoundColumns, error_is_not_above_nearest_on_independent_inputs) {
  const std::vector<float> w = normal(kM * kN, 1), x = normal(4 * kRows * kN, 2), h = gram(x, 4 * kRows, kN);
  for (const Codec* codec : kCodecs)
    EXPECT_LT(output_error(w, gptq(*codec, w, h, kM, kN, false).numbers, x, kM, kN),
              1.02 * output_error(w, nearest(*codec, w), x, kM, kN))
        << codec->name;
}

// Without correlation there is nothing to make up for: the codec's own levels, and the nearest of them.
TEST(RoundColumns, diagonal_inputs_give_the_nearest_level) {
  const std::vector<float> w = normal(kM * kN, 1);
  std::vector<float> h(static_cast<size_t>(kN * kN), 0.0f);
  for (int64_t i = 0; i < kN; ++i) h[static_cast<size_t>(i * kN + i)] = static_cast<float>(1 + i % 7);
  for (const Codec* codec : kCodecs)
    for (bool descending : {false, true}) {
      const std::vector<float> q = gptq(*codec, w, h, kM, kN, descending).numbers, plain = nearest(*codec, w);
      for (size_t i = 0; i < w.size(); ++i)
        ASSERT_LE(std::abs(q[i] - w[i]), std::abs(plain[i] - w[i]) + 1e-6f) << codec->name << " " << i;
    }
}

// Numbers that lie on the levels already stay, byte for byte.
TEST(RoundColumns, levels_stay_as_they_are) {
  const std::vector<float> x = correlated(kRows, kN, 0.9f), h = gram(x, kRows, kN);
  for (const Codec* codec : {&kQ4_0, &kQ4_1}) {
    const std::vector<float> w = nearest(*codec, normal(kM * kN, 1));
    const std::vector<float> again = nearest(*codec, w);
    const Rounded q = gptq(*codec, w, h, kM, kN, false);
    for (size_t i = 0; i < w.size(); ++i)
      if (again[i] == w[i]) {
        ASSERT_NEAR(q.numbers[i], w[i], 2e-3f * std::abs(w[i]) + 1e-4f) << codec->name << " " << i;
      }
  }
}

TEST(RoundColumns, bits_do_not_depend_on_threads) {
  const std::vector<float> w = normal(kM * kN, 1), h = gram(correlated(kRows, kN, 0.9f), kRows, kN);
  const Rounded one = gptq(kQ4_0, w, h, kM, kN, true, 1);
  for (int threads : {2, 3}) EXPECT_EQ(gptq(kQ4_0, w, h, kM, kN, true, threads).bytes, one.bytes);
}

// Column by column as in the paper: the inverse itself is updated by eliminating each column (equation 3), and the
// error of a weight goes to the others as (w - q) / [H^-1]_jj [H^-1]_j (equation 2).
TEST(RoundColumns, equals_elimination_of_the_inverse_in_double) {
  constexpr int64_t kSmall = 32;
  std::vector<float> w = normal(5 * kSmall, 1), h = gram(correlated(kRows, kSmall, 0.8f), kRows, kSmall);
  const std::vector<float> q = gptq(kQ4_1, w, h, 5, kSmall, false).numbers;
  double mean = 0;
  for (int64_t i = 0; i < kSmall; ++i) mean += double{h[static_cast<size_t>(i * kSmall + i)]} / kSmall;
  // The inverse, by Gauss and Jordan.
  std::vector<std::vector<double>> a(kSmall, std::vector<double>(2 * kSmall, 0.0));
  for (size_t i = 0; i < kSmall; ++i) {
    for (size_t j = 0; j < kSmall; ++j) a[i][j] = double{h[i * kSmall + j]} + (i == j ? 0.01 * mean : 0);
    a[i][kSmall + i] = 1;
  }
  for (size_t p = 0; p < kSmall; ++p) {
    const double pivot = a[p][p];
    for (double& v : a[p]) v /= pivot;
    for (size_t r = 0; r < kSmall; ++r) {
      if (r == p) continue;
      const double by = a[r][p];
      for (size_t c = 0; c < 2 * kSmall; ++c) a[r][c] -= by * a[p][c];
    }
  }
  std::vector<std::vector<double>> inverse(kSmall, std::vector<double>(kSmall));
  for (size_t i = 0; i < kSmall; ++i)
    for (size_t j = 0; j < kSmall; ++j) inverse[i][j] = a[i][kSmall + j];
  for (size_t row = 0; row < 5; ++row) {
    auto left = inverse;
    std::vector<double> x(w.begin() + static_cast<int64_t>(row) * kSmall,
                          w.begin() + static_cast<int64_t>(row + 1) * kSmall);
    float least = w[row * kSmall], most = least;
    for (size_t j = 0; j < kSmall; ++j)
      least = std::min(least, w[row * kSmall + j]), most = std::max(most, w[row * kSmall + j]);
    const double first = double{f16_to_f32(f32_to_f16(least))},
                 step = double{f16_to_f32(f32_to_f16((most - least) / 15))};
    for (size_t j = 0; j < kSmall; ++j) {
      const double level = first + step * std::clamp(std::floor((x[j] - first) / step + 0.5), 0.0, 15.0);
      ASSERT_NEAR(q[row * kSmall + j], level, 1e-5) << row << " " << j;
      const double error = (x[j] - level) / left[j][j];
      const std::vector<double> eliminated = left[j];
      for (size_t k = j; k < kSmall; ++k) x[k] -= error * eliminated[k];
      for (size_t r = 0; r < kSmall; ++r)
        for (size_t c = 0; c < kSmall; ++c) {
          if (r == j || c == j) continue;
          left[r][c] -= eliminated[r] * eliminated[c] / eliminated[j];
        }
    }
  }
}

TEST(InverseFactor, equals_its_reference) {
  for (const auto& [n, descending] : {std::pair<int64_t, bool>{7, false}, {40, true}}) {
    std::vector<float> h = gram(correlated(200, n, 0.7f), 200, n), u(static_cast<size_t>(n * n));
    for (int64_t i = 0; i < n; ++i) h[static_cast<size_t>(3 * n + i)] = h[static_cast<size_t>(i * n + 3)] = 0;  // dead
    std::vector<int32_t> order(static_cast<size_t>(n));
    const std::any attributes = InverseFactorAttributes{0.01, descending};
    std::vector<double> exact(h.begin(), h.end()), expected(u.size()), expected_order(order.size());
    Threads team(1);
    RunContext run{team, Multiply::f32, 0, 0, 0};
    const ReferenceOperand in[] = {{&exact, {n, n}}}, out[] = {{&expected, {n, n}}, {&expected_order, {n}}};
    kInverseFactor.reference({attributes, in, out, run});
    std::vector<float> first;
    for (int threads : {1, 2, 3}) {
      call(kInverseFactor, attributes, {{bytes_of(h), {n, n}}}, {{bytes_of(u), {n, n}}, {bytes_of(order), {n}, &kI32}},
           threads);
      for (size_t i = 0; i < u.size(); ++i) ASSERT_NEAR(u[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-9) << i;
      for (size_t i = 0; i < order.size(); ++i) ASSERT_EQ(order[i], expected_order[i]);
      if (first.empty()) first = u;
      ASSERT_EQ(u, first) << threads;
    }
    // u^T u (h + damping) = 1.
    double mean = 0;
    for (int64_t i = 0; i < n; ++i)
      mean += (i == 3 ? 1.0 : exact[static_cast<size_t>(i * n + i)]) / static_cast<double>(n);
    const auto damped = [&](int64_t i, int64_t j) {
      const auto r = static_cast<size_t>(order[static_cast<size_t>(i)]),
                 c = static_cast<size_t>(order[static_cast<size_t>(j)]);
      return exact[r * static_cast<size_t>(n) + c] + (r == c ? 0.01 * mean + (r == 3 ? 1 : 0) : 0);
    };
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < n; ++k)
          for (int64_t l = 0; l <= std::min(i, k); ++l)
            sum += double{u[static_cast<size_t>(l * n + i)]} * double{u[static_cast<size_t>(l * n + k)]} * damped(k, j);
        ASSERT_NEAR(sum, i == j ? 1 : 0, 1e-4) << i << " " << j;
      }
  }
}

TEST(InverseFactor, says_what_is_indefinite) {
  std::vector<float> h = {1, 2, 2, 1}, u(4);
  call(kInverseFactor, InverseFactorAttributes{0, false}, {{bytes_of(h), {2, 2}}}, {{bytes_of(u), {2, 2}}, {}}, 1);
  EXPECT_FALSE(std::isfinite(u[0]));
}

TEST(KeepLargest, drops_exactly_so_many_of_equals) {
  std::vector<float> w(4 * 64, 1.0f), scores(w.size(), 2.0f), y(w.size());
  using Attributes = KeepLargestAttributes;
  call(kKeepLargest, Attributes{Attributes::Group::run, 2, 4}, {{bytes_of(w), {4, 64}}, {bytes_of(scores), {4, 64}}},
       {{bytes_of(y), {4, 64}}}, 3);
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], i % 4 < 2 ? 0.0f : 1.0f) << i;
}

}  // namespace
}  // namespace thimble
