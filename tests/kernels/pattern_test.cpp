// Products with packed n:m weights have the bits of those with the same weights in full.
#include "codecs/pattern.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/isa.h"
#include "core/random.h"
#include "kernels/narrow.h"

namespace thimble {
namespace {

struct Weights {
  std::vector<std::byte> packed, dense;
  Weights(const Pattern& pattern, int64_t rows, int64_t columns) {
    const Random random(3, "weights");
    std::vector<float> row(static_cast<size_t>(columns));
    packed.resize(static_cast<size_t>(rows * pattern.codec->bytes(columns)));
    dense.resize(static_cast<size_t>(rows * pattern.dense->bytes(columns)));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < columns; ++i)
        row[static_cast<size_t>(i)] =
            (i + i / 4 + r) % 4 < 2 ? random.normal(static_cast<uint64_t>(r * columns + i)) : 0;
      pattern.codec->encode(row.data(), packed.data() + r * pattern.codec->bytes(columns), columns);
      pattern.dense->encode(row.data(), dense.data() + r * pattern.dense->bytes(columns), columns);
    }
  }
};

std::vector<float> product(Threads& threads, Multiply multiply, bool few, const Codec& activation, const Matrix& w,
                           int64_t m, bool transposed) {
  const int64_t k = transposed ? w.columns : w.rows, n = transposed ? w.rows : w.columns;
  const Random random(4, "x");
  std::vector<float> x(static_cast<size_t>(m * k)), y(static_cast<size_t>(m * n));
  for (size_t i = 0; i < x.size(); ++i) x[i] = random.normal(i);
  std::vector<std::byte> a(static_cast<size_t>(activation.bytes(m * k)));
  activation.encode(x.data(), a.data(), m * k);
  const Term term{{&activation, a.data(), m, k, 0}, w, false, transposed, 1};
  const Product p{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(y.data()), .m = m, .n = n};
  if (few) {
    std::vector<std::byte> workspace(static_cast<size_t>(narrow_workspace_bytes(multiply, {&p, 1}, threads.count())));
    narrow(threads, multiply, {&p, 1}, workspace);
  } else {
    std::vector<std::byte> workspace(static_cast<size_t>(gemm_workspace_bytes(multiply, p, threads.count())));
    gemm(threads, multiply, p, workspace);
  }
  return y;
}

TEST(PackedPatterns, multiply_to_the_bits_of_full_weights) {
  Threads threads(2);
  const Isa before = active_isa.level;
  for (const Codec* codec : {&kBf16In24, &kF16In24}) {
    const Pattern& pattern = *pattern_of(*codec);
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{37, 96}, {48, 64}, {16, 100}, {64, 576}}) {
      const Weights w(pattern, rows, columns);
      const Matrix packed{codec, w.packed.data(), rows, columns, 0},
          dense{pattern.dense, w.dense.data(), rows, columns, 0};
      for (const IsaLevel& level : isa_levels()) {
        if (!(this_cpu_levels() & isa_bit(level.isa))) continue;
        use_isa(level.isa);
        for (const Codec* activation : {&kF32, &kBf16})
          for (const Multiply multiply : {Multiply::f32, Multiply::bf16}) {
            if (multiply == Multiply::bf16 && activation == &kF32) continue;
            SCOPED_TRACE(fmt::format("{} [{}, {}] {} {}", codec->name, rows, columns, activation->name, level.name));
            for (const int64_t m : {1, 3, 7})
              EXPECT_EQ(product(threads, multiply, true, *activation, packed, m, true),
                        product(threads, multiply, true, *activation, dense, m, true));
            for (const bool transposed : {true, false})
              for (const int64_t m : {5, 40})
                EXPECT_EQ(product(threads, multiply, false, *activation, packed, m, transposed),
                          product(threads, multiply, false, *activation, dense, m, transposed));
          }
      }
      use_isa(before);
    }
  }
}

}  // namespace
}  // namespace thimble
