#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/random.h"
#include "whole.h"

namespace thimble {
namespace {

struct Operand {
  std::vector<std::byte> bytes;
  std::vector<float> values;  // what the bytes decode to
  Matrix matrix;
};

Operand make(const Codec& codec, int64_t rows, int64_t columns, uint64_t stream) {
  Operand o;
  o.bytes.resize(codec.bytes(columns) * rows);
  o.values.resize(rows * columns);
  const Random random(3, stream, 0);
  for (int64_t i = 0; i < rows * columns; ++i) o.values[i] = random.normal(i);
  for (int64_t r = 0; r < rows; ++r) {
    codec.encode(o.values.data() + r * columns, o.bytes.data() + r * codec.bytes(columns), columns);
    codec.decode(o.bytes.data() + r * codec.bytes(columns), o.values.data() + r * columns, columns);
  }
  o.matrix = {.codec = &codec, .data = o.bytes.data(), .rows = rows, .columns = columns};
  return o;
}

double reference(const std::vector<Operand>& a, const std::vector<Operand>& b, const std::vector<Term>& terms,
                 int64_t i, int64_t j) {
  double sum = 0;
  for (size_t t = 0; t < terms.size(); ++t) {
    const Term& term = terms[t];
    const int64_t k = term.a_transposed ? term.a.rows : term.a.columns;
    for (int64_t x = 0; x < k; ++x) {
      const double av = a[t].values[term.a_transposed ? x * term.a.columns + i : i * term.a.columns + x];
      const double bv = b[t].values[term.b_transposed ? j * term.b.columns + x : x * term.b.columns + j];
      sum += av * bv * term.scale;
    }
  }
  return sum;
}

struct Form {
  Multiply multiply;
  const Codec* activation;
};
constexpr Form kForms[] = {{Multiply::f32, &kF32}, {Multiply::f32, &kBf16}, {Multiply::bf16, &kBf16}};

// A master in f32 meets activations in bf16 as bf16.
void round_master(Operand& b) {
  std::vector<std::byte> bytes(static_cast<size_t>(kBf16.bytes(std::ssize(b.values))));
  kBf16.encode(b.values.data(), bytes.data(), std::ssize(b.values));
  kBf16.decode(bytes.data(), b.values.data(), std::ssize(b.values));
}

// Up to which products are tried with all codecs; of larger ones two are enough. The race detector and emulators take
// minutes otherwise, and codecs do not differ in what threads share.
int64_t depth_for_all() {
#ifdef __SANITIZE_THREAD__
  return 64;
#else
  return emulated() ? 64 : 256;
#endif
}

// Products over odd sizes, every layout, one and two terms, all codecs of B, against a double reference. The last
// size has several groups of panels.
TEST(Gemm, equals_reference) {
  int cases = 0;
  for (const auto& [multiply, activation] : kForms)
    for (const Codec* codec : codecs())
      for (int layout = 0; layout < 4; ++layout)
        for (auto [m, n, k] : {std::array<int64_t, 3>{1, 1, 1},
                               {3, 7, 5},
                               {9, 49, 33},
                               {17, 100, 64},
                               {70, 256, 256},
                               {13, 320, 2304}}) {
          const bool at = layout & 1, bt = layout & 2;
          if (!codec->fits_rows(bt ? k : n)) continue;
          if (k > depth_for_all() && codec != &kF32 && codec != &kQ8_0) continue;
          ++cases;
          SCOPED_TRACE(fmt::format("{} {} {} layout {} {}x{}x{}", int(multiply), activation->name, codec->name, layout,
                                   m, n, k));
          std::vector<Operand> a, b;
          std::vector<Term> terms;
          for (int t = 0; t < 1 + (cases % 2); ++t) {
            a.push_back(make(*activation, at ? k : m, at ? m : k, 2 * t));
            b.push_back(make(*codec, bt ? n : k, bt ? k : n, 2 * t + 1));
            if (activation == &kBf16 && codec == &kF32) round_master(b.back());
            terms.push_back({a[t].matrix, b[t].matrix, at, bt, t ? 0.5f : 1.0f});
          }
          Threads threads(1 + cases % 3);
          std::vector<float> c(m * n, 1.0f), bias(n, 0.25f);
          Product product{.terms = terms,
                          .c = reinterpret_cast<std::byte*>(c.data()),
                          .m = m,
                          .n = n,
                          .accumulate = cases % 3 == 0,
                          .bias = cases % 5 ? nullptr : bias.data()};
          std::vector<std::byte> workspace(gemm_workspace_bytes(multiply, product, threads.count()));
          gemm(threads, multiply, product, workspace);
          const double start = (product.accumulate ? 1.0 : 0.0) + (product.bias ? 0.25 : 0.0);
          const double tolerance = (multiply == Multiply::bf16 ? 2e-2 : 1e-5) * std::sqrt(double(k)) * 4;
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j)
              ASSERT_NEAR(c[i * n + j], start + reference(a, b, terms, i, j), tolerance) << i << ", " << j;
        }
  EXPECT_GT(cases, 40);
}

// Plans know the largest product; the last rows, columns or tokens make smaller ones in the same workspace.
TEST(Gemm, smaller_products_take_no_more) {
  const Random random(5, 0, 0);
  for (uint64_t i = 0; i < 20000; ++i) {
    const auto pick = [&](uint64_t which, int64_t most) {
      return 1 + static_cast<int64_t>(static_cast<double>(most) * random.uniform(8 * i + which));
    };
    const Codec* const codec = codecs()[static_cast<size_t>(pick(0, std::ssize(codecs()) - 1))];
    const bool at = i & 1, bt = i & 2;
    const Form& form = kForms[i % 3];
    const int threads = static_cast<int>(pick(1, 4));
    const auto bytes = [&](int64_t m, int64_t n, int64_t k) {
      const Term term{
          {form.activation, nullptr, at ? k : m, at ? m : k}, {codec, nullptr, bt ? n : k, bt ? k : n}, at, bt};
      return gemm_workspace_bytes(form.multiply, {.terms = {&term, 1}, .m = m, .n = n}, threads);
    };
    const int64_t m = pick(2, 3000), n = pick(3, 2500), k = pick(4, i % 5 ? 2000 : 18000);
    const int64_t less_m = pick(5, m), less_n = pick(6, n), less_k = pick(7, k);
    ASSERT_LE(bytes(less_m, less_n, less_k), bytes(m, n, k))
        << codec->name << fmt::format(" {}x{}x{} in {}x{}x{}, {} threads", less_m, less_n, less_k, m, n, k, threads);
  }
}

// The bits of a row do not depend on how many rows there are, nor on the threads.
TEST(Gemm, rows_are_independent) {
  for (const auto& [how, activation] : kForms) {
    const Multiply multiply = how;
    const int64_t m = 530, n = 101, k = 64;
    const Operand a = make(*activation, m, k, 1), b = make(kF32, n, k, 2);
    const auto run = [&](int64_t first, int64_t rows, int count) {
      Threads threads(count);
      Matrix part = a.matrix;
      part.data = a.matrix.row(first), part.rows = rows;
      const Term term{part, b.matrix, false, true, 1};
      std::vector<float> c(rows * n);
      const Product product{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(c.data()), .m = rows, .n = n};
      std::vector<std::byte> workspace(gemm_workspace_bytes(multiply, product, count));
      gemm(threads, multiply, product, workspace);
      return c;
    };
    const std::vector<float> whole = run(0, m, 2);
    for (int64_t first : {0, 5, 512})
      for (int64_t rows : {1, 3, 18}) {
        const std::vector<float> part = run(first, rows, 1);
        for (int64_t i = 0; i < rows * n; ++i) ASSERT_EQ(part[i], whole[first * n + i]);
      }
  }
}

// Nor on how many threads there are: of products whose panels one thread packs, each thread its own, or all together;
// in one go and in several.
TEST(Gemm, threads_change_no_bit) {
  for (const auto& [how, activation] : kForms)
    for (const Codec* codec : {&kF32, &kQ4_1})
      for (int layout = 0; layout < 4; ++layout)
        for (const auto [m, n, k] : {std::array<int64_t, 3>{300, 160, 608}, {7, 1248, 96}, {40, 2080, 320}}) {
          const Multiply multiply = how;
          const bool at = layout & 1, bt = layout & 2;
          SCOPED_TRACE(fmt::format("{} {} {} layout {} {}x{}x{}", int(multiply), activation->name, codec->name, layout,
                                   m, n, k));
          const Operand a = make(*activation, at ? k : m, at ? m : k, 1);
          const Operand b = make(*codec, bt ? n : k, bt ? k : n, 2);
          const Operand a2 = make(*activation, at ? 32 : m, at ? m : 32, 3);
          const Operand b2 = make(kF32, bt ? n : 32, bt ? 32 : n, 4);
          const Term terms[] = {{a.matrix, b.matrix, at, bt, 1}, {a2.matrix, b2.matrix, at, bt, 0.5f}};
          const auto run = [&](int count) {
            Threads threads(count);
            std::vector<float> c(static_cast<size_t>(m * n));
            const Product product{.terms = terms, .c = reinterpret_cast<std::byte*>(c.data()), .m = m, .n = n};
            const int64_t bytes = gemm_workspace_bytes(multiply, product, count);
            std::vector<std::byte> workspace(static_cast<size_t>(bytes) + 64, std::byte{0x7f});
            gemm(threads, multiply, product, {workspace.data(), static_cast<size_t>(bytes)});
            for (size_t i = static_cast<size_t>(bytes); i < workspace.size(); ++i)
              EXPECT_EQ(workspace[i], std::byte{0x7f}) << "written beyond the workspace";
            return c;
          };
          const std::vector<float> one = run(1);
          for (const int count : {2, 5, 16}) EXPECT_EQ(run(count), one) << count << " threads";
        }
}

}  // namespace
}  // namespace thimble
