#include "kernels/packed.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/random.h"

namespace thimble {
namespace {

struct Values {
  std::vector<float> f;
  std::vector<std::byte> bytes;
  Matrix matrix;
};

Values make(const Codec& codec, int64_t rows, int64_t columns, uint64_t stream) {
  Values v{std::vector<float>(rows * columns), std::vector<std::byte>(codec.bytes(rows * columns)), {}};
  const Random random(5, stream, 0);
  for (size_t i = 0; i < v.f.size(); ++i) v.f[i] = random.normal(i);
  codec.encode(v.f.data(), v.bytes.data(), rows * columns);
  codec.decode(v.bytes.data(), v.f.data(), rows * columns);
  v.matrix = {&codec, v.bytes.data(), rows, columns, 0};
  return v;
}

bool reaches(const Reach& reach, int64_t row, int64_t column, int64_t depth) {
  const int64_t diagonal = row + reach.shift;
  switch (reach.kind) {
    case Reach::columns_from:
      return column >= diagonal;
    case Reach::columns_to:
      return column <= diagonal;
    case Reach::depth_from:
      return depth >= diagonal;
    case Reach::depth_to:
      return depth <= diagonal;
    default:
      return true;
  }
}

// What is wanted of a product, in every layout and reach, over odd sizes. Depths out of reach are zero in A, as the
// mask of attention makes them.
TEST(Packed, equals_reference) {
  for (Multiply multiply : {Multiply::f32, Multiply::bf16})
    for (int layout = 0; layout < 4; ++layout)
      for (Reach::Kind kind : {Reach::all, Reach::columns_from, Reach::columns_to, Reach::depth_from, Reach::depth_to})
        for (auto [m, n, k, shift] :
             {std::array<int64_t, 4>{1, 1, 1, 0}, {7, 5, 3, 1}, {50, 64, 50, -3}, {64, 128, 64, 0}}) {
          const bool at = layout & 1, bt = layout & 2;
          const Codec& codec = multiply == Multiply::bf16 ? kBf16 : kF32;
          const Reach reach{kind, shift};
          Values a = make(codec, at ? k : m, at ? m : k, 1), b = make(codec, bt ? n : k, bt ? k : n, 2);
          const bool depths = kind == Reach::depth_from || kind == Reach::depth_to;
          for (int64_t i = 0; i < m && depths; ++i)
            for (int64_t x = 0; x < k; ++x)
              if (!reaches(reach, i, 0, x)) a.f[at ? x * m + i : i * k + x] = 0;
          codec.encode(a.f.data(), a.bytes.data(), m * k);
          std::vector<std::byte> left(left_bytes(multiply, m, k)), right(right_bytes(multiply, k, n));
          std::vector<float> scratch(lay_scratch_bytes(multiply, k, codec) / 4);
          const int64_t stride = (n + 15) / 16 * 16;
          std::vector<float> c(m * stride, 1.0f);
          lay_right(multiply, b.matrix, bt, right.data(), scratch.data());
          multiply_packed(multiply, {.a = lay_left(multiply, a.matrix, at, left.data(), scratch.data()),
                                     .b = right.data(),
                                     .m = m,
                                     .k = k,
                                     .n = n,
                                     .c = c.data(),
                                     .stride = stride,
                                     .accumulate = true,
                                     .reach = reach});
          for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j < n; ++j) {
              if (!depths && !reaches(reach, i, j, 0)) continue;
              double sum = 1;
              for (int64_t x = 0; x < k; ++x)
                sum += double(a.f[at ? x * m + i : i * k + x]) * b.f[bt ? j * k + x : x * n + j];
              ASSERT_NEAR(c[i * stride + j], sum, 1e-4)
                  << m << " " << n << " " << k << " layout " << layout << " kind " << kind << " at " << i << ", " << j;
            }
        }
}

}  // namespace
}  // namespace thimble
