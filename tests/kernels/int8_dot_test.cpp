#include "kernels/dot/int8_dot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "codecs/dispatch.h"
#include "core/random.h"
#include "kernels/dot/int8_formats.h"
#include "kernels/narrow.h"

namespace thimble {
namespace {

std::vector<float> normal(size_t count, const char* name) {
  const Random random(5, name);
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = random.normal(i) * (i % 7 == 0 ? 5 : 1);
  return out;
}

// m rows of x and `columns` rows of a weight in a codec, misaligned by a byte.
struct Operands {
  int64_t m, n, columns;
  std::vector<float> x, w;
  std::vector<std::byte> weights, rows, groups;

  Operands(const Codec& codec, int64_t m, int64_t n, int64_t columns)
      : m(m),
        n(n),
        columns(columns),
        x(normal(m * n, "x")),
        w(normal(columns * n, "w")),
        weights(codec.bytes(columns * n) + 1),
        rows(m * Int8Rows::row_bytes(n)) {
    codec.encode(w.data(), weights.data() + 1, columns * n);
    codec.decode(weights.data() + 1, w.data(), columns * n);
    for (int64_t r = 0; r < m; ++r) quantise_int8(x.data() + r * n, *int8_format(codec, n), {rows.data(), n}, r);
  }
  Int8Weights interleaved_weights(const Codec& codec) {
    groups.resize(codec.bytes(kDotRows * n));
    interleave_rows(codec, weights.data() + 1, codec.bytes(n), n, groups.data());
    return {*int8_format(*interleaved(codec), n), groups.data(), codec.bytes(n), columns, true};
  }
  Int8Weights int8_weights(const Codec& codec) const {
    return {*int8_format(codec, n), weights.data() + 1, codec.bytes(n), columns};
  }
};

// The instructions of this CPU give the reference's bits, and both come near the exact product.
TEST(Int8Dot, equals_reference_and_is_near_exact) {
  int codecs_seen = 0;
  for (const Codec* codec : codecs()) {
    if (!int8_format(*codec, 256)) continue;
    ++codecs_seen;
    for (auto [m, n, columns] : {std::tuple{1, 256, 16}, {1, 768, 5}, {3, 1536, 16}, {15, 256, 13}}) {
      for (int64_t width : {int64_t{n}, codec->block == 32 ? n + 32 : int64_t{n}}) {
        SCOPED_TRACE(fmt::format("{} {} x {} x {}", codec->name, m, width, columns));
        Operands o(*codec, m, width, columns);
        const Int8Rows rows{const_cast<std::byte*>(o.rows.data()), width};
        std::vector<float> result(m * 16, 0.5f), expected = result, sums(2 * m * 16);
        multiply_int8(o.int8_weights(*codec), rows, m, 0.25f, result.data(), sums.data());
        multiply_int8_reference(o.int8_weights(*codec), rows, m, 0.25f, expected.data(), sums.data());
        EXPECT_EQ(result, expected);
        if (columns == kDotRows) {
          std::fill(result.begin(), result.end(), 0.5f);
          multiply_int8(o.interleaved_weights(*codec), rows, m, 0.25f, result.data(), sums.data());
          EXPECT_EQ(result, expected);
        }
        for (int64_t r = 0; r < m; ++r)
          for (int64_t c = 0; c < columns; ++c) {
            double exact = 0, size = 0;
            for (int64_t i = 0; i < width; ++i) {
              const double product = double(o.w[c * width + i]) * o.x[r * width + i];
              exact += product, size += std::abs(product);
            }
            EXPECT_NEAR(result[r * 16 + c], 0.5 + 0.25 * exact, 0.25 * 0.01 * size);
          }
      }
    }
  }
  EXPECT_EQ(codecs_seen, 8);
}

// Codes and activations as large as they get, in every combination of signs: sums of products in 16 bits must hold
// them.
TEST(Int8Dot, extreme_codes_do_not_saturate) {
  constexpr int64_t kN = 256;
  for (const Codec* codec : codecs()) {
    if (!int8_format(*codec, kN)) continue;
    for (const unsigned pattern : {0x00u, 0x7fu, 0x80u, 0xffu}) {
      for (const float sign : {1.0f, -1.0f}) {
        for (const int64_t m : {1, 3, 5}) {
          SCOPED_TRACE(fmt::format("{} {:x} {} {}", codec->name, pattern, sign, m));
          Operands o(*codec, m, kN, 16);
          std::fill(o.weights.begin(), o.weights.end(), std::byte(pattern));
          // Scales and offsets of 1.
          const bool two = codec == &kQ4_1 || codec == &kQ5_1 || codec == &kQ4K || codec == &kQ5K;
          for (size_t at = 1; at < o.weights.size(); at += static_cast<size_t>(codec->block_bytes))
            for (size_t i = codec == &kQ6K ? 208 : 0, end = i + (two ? 4 : 2); i < end; i += 2)
              o.weights[at + i] = std::byte{0}, o.weights[at + i + 1] = std::byte{0x3c};
          std::fill(o.x.begin(), o.x.end(), sign);
          for (size_t i = 0; i < o.x.size(); i += 5) o.x[i] = -sign;
          const Int8Rows rows{o.rows.data(), kN};
          for (int64_t r = 0; r < m; ++r) quantise_int8(o.x.data() + r * kN, *int8_format(*codec, kN), rows, r);
          std::vector<float> result(m * 16), expected(m * 16), sums(2 * m * 16);
          multiply_int8(o.int8_weights(*codec), rows, m, 1, result.data(), sums.data());
          multiply_int8_reference(o.int8_weights(*codec), rows, m, 1, expected.data(), sums.data());
          EXPECT_EQ(result, expected);
        }
      }
    }
  }
}

// Every level's packing against the plain one, as far as this CPU has them.
TEST(Int8Dot, levels_pack_alike) {
  for (const Codec* codec : codecs()) {
    const Int8Format* const format = int8_format(*codec, 256);
    if (!format) continue;
    SCOPED_TRACE(codec->name);
    const Operands o(*codec, 1, 256, 16);
    const std::byte* const weights = o.weights.data() + 1;
    Int8Panel plain{}, panel{};
    std::vector<std::byte> group(codec->bytes(256 * kDotRows));
    const Isa before = active_isa.level;
    for (const IsaLevel& level : isa_levels()) {
      if (!(this_cpu_levels() & isa_bit(level.isa))) continue;
      for (int64_t count : {int64_t{256}, codec->block}) {
        SCOPED_TRACE(fmt::format("level {} count {}", level.name, count));
        const Int8Source source{weights, codec->bytes(256), count};
        use_isa(level.isa);
        interleave_rows(*codec, source.data, source.stride, count, group.data());
        pack_int8(format->kind)(group.data(), count, panel);
        use_isa(before);
        format->pack_reference(source, plain);
        EXPECT_EQ(std::memcmp(panel.codes, plain.codes, static_cast<size_t>(count) * 16), 0);
        const size_t groups = static_cast<size_t>(count / format->group);
        EXPECT_EQ(std::memcmp(panel.scales, plain.scales, groups * 64), 0);
        if (format->offsets) {
          EXPECT_EQ(std::memcmp(panel.offsets, plain.offsets, groups * 64), 0);
        }
      }
    }
  }
}

// Every level of this CPU gives the same bits: of one row and of several, plain and interleaved.
TEST(Int8Dot, levels_agree) {
  const Isa before = active_isa.level;
  for (const Codec* codec : codecs()) {
    if (!int8_format(*codec, 512)) continue;
    for (const int64_t m : {1, 2, 3, 4, 5, 7, 15}) {
      SCOPED_TRACE(fmt::format("{} {}", codec->name, m));
      Operands o(*codec, m, 512, 16);
      const Int8Rows rows{o.rows.data(), 512};
      std::vector<float> first, sums(2 * m * 16);
      for (const IsaLevel& level : isa_levels()) {
        if (!(this_cpu_levels() & isa_bit(level.isa))) continue;
        SCOPED_TRACE(level.name);
        for (const Int8Weights& weights : {o.int8_weights(*codec), o.interleaved_weights(*codec)}) {
          std::vector<float> result(m * 16, 0.5f);
          use_isa(level.isa);
          multiply_int8(weights, rows, m, 0.25f, result.data(), sums.data());
          use_isa(before);
          if (first.empty()) first = result;
          EXPECT_EQ(result, first);
        }
      }
    }
  }
}

TEST(Int8Dot, zeros_stay_zero) {
  std::vector<float> x(32, 0.0f);
  std::vector<std::byte> memory(Int8Rows::row_bytes(32), std::byte{1});
  const Int8Rows rows{memory.data(), 32};
  quantise_int8(x.data(), *int8_format(kQ8_0, 32), rows, 0);
  EXPECT_EQ(rows.sums(0)[0], 0);
  EXPECT_EQ(rows.corrections(0)[0], 0);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(rows.codes(0)[i], 0);
}

// A narrow product in int8 is near the one in f32, and its bits do not depend on threads or on the rows beside it.
TEST(Int8Dot, narrow_product) {
  const int64_t m = 5, n = 37, k = 96;
  const Codec& codec = *find_codec("q4_1");
  const Random random(8, "narrow");
  std::vector<float> x(m * k), w(n * k);
  for (size_t i = 0; i < x.size(); ++i) x[i] = random.normal(i);
  for (size_t i = 0; i < w.size(); ++i) w[i] = random.normal(1000000 + i);
  std::vector<std::byte> weights(codec.bytes(n * k));
  codec.encode(w.data(), weights.data(), n * k);
  const auto product = [&](Multiply multiply, int count, int64_t rows) {
    Threads threads(count);
    std::vector<float> c(rows * n);
    const Term term{{&kF32, reinterpret_cast<const std::byte*>(x.data()), rows, k, 0},
                    {&codec, weights.data(), n, k, 0},
                    false,
                    true,
                    1};
    const Product p{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(c.data()), .m = rows, .n = n};
    std::vector<std::byte> workspace(narrow_workspace_bytes(multiply, {&p, 1}, count));
    narrow(threads, multiply, {&p, 1}, workspace);
    return c;
  };
  const std::vector<float> exact = product(Multiply::f32, 1, m), int8 = product(Multiply::int8, 1, m);
  EXPECT_NE(exact, int8);
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(int8[i], exact[i], 0.5);
  EXPECT_EQ(product(Multiply::int8, 3, m), int8);
  const std::vector<float> one = product(Multiply::int8, 2, 1);
  for (int64_t i = 0; i < n; ++i) EXPECT_EQ(one[i], int8[i]);
}

}  // namespace
}  // namespace thimble
