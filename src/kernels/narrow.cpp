#include "kernels/narrow.h"

#include <algorithm>
#include <cstring>

#include "codecs/dispatch.h"
#include "core/round.h"
#include "kernels/dot/int8_dot.h"
#include "kernels/vector.h"

namespace thimble {
namespace {

constexpr int64_t kLanes = 16;
constexpr int kTogether = 4;      // weight rows, and rows of x, that meet in registers
constexpr int64_t kColumns = 16;  // weight rows whose results are stored together

using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));

int64_t padded(int64_t k) { return (k + kLanes - 1) / kLanes * kLanes; }
int64_t aligned(int64_t bytes) { return round_up(bytes, 64); }

// Codes, scales and sums of one row of x in int8; 0 where the weight has no int8 dot product.
int64_t int8_row_bytes(const Term& term) {
  const int64_t k = term.a.columns;
  return k % kDotBlock == 0 && int8_dot(*term.b.codec) ? k + k / kDotBlock * 8 : 0;
}

Int8Row int8_row(std::byte* at, int64_t k) {
  float* const scales = reinterpret_cast<float*>(at);
  return {reinterpret_cast<int8_t*>(scales + k / kDotBlock * 2), scales, scales + k / kDotBlock};
}

// Where things lie in the workspace: x of all terms as f32 and as int8, then for each thread weight rows and results.
struct Plan {
  const Product& product;
  int64_t x_bytes = 0, int8_bytes = 0, weight_bytes = 0, result_bytes;

  explicit Plan(const Product& p) : product(p), result_bytes(aligned(p.m * kColumns * 4)) {
    for (const Term& term : p.terms) {
      x_bytes += aligned(p.m * padded(term.a.columns) * 4);
      int8_bytes += aligned(p.m * int8_row_bytes(term));
      // Codecs decode whole blocks.
      weight_bytes = std::max(weight_bytes, aligned(kTogether * (padded(term.a.columns) + term.b.codec->block) * 4));
    }
  }
  int64_t thread_bytes() const { return weight_bytes + result_bytes; }
};

// The sum over lanes, in the order of dot() in rows.h.
THIMBLE_BODY float fold(Lanes v) noexcept {
  using Index = int __attribute__((vector_size(64)));
  v += __builtin_shuffle(v, Index{8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
  v += __builtin_shuffle(v, Index{4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
  v += __builtin_shuffle(v, Index{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
  return v[0] + v[1];
}

// out[r * kColumns + c] += scale * dot(x_r, w_c); rows of x and w are `stride` floats apart, a multiple of 16.
template <int R>
THIMBLE_BODY void tile(const float* x, const float* w, int64_t stride, float scale, float* out) noexcept {
  Lanes sums[R][kTogether] = {};
  for (int64_t i = 0; i < stride; i += kLanes) {
    Lanes b[kTogether];
#pragma GCC unroll 4
    for (int c = 0; c < kTogether; ++c) b[c] = *reinterpret_cast<const Lanes*>(w + c * stride + i);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const Lanes a = *reinterpret_cast<const Lanes*>(x + r * stride + i);
#pragma GCC unroll 4
      for (int c = 0; c < kTogether; ++c) sums[r][c] += a * b[c];
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < kTogether; ++c) out[r * kColumns + c] += scale * fold(sums[r][c]);
}

THIMBLE_BODY void tiles_body(const float* x, int64_t rows, const float* w, int64_t stride, float scale,
                             float* out) noexcept {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) tile<4>(x + r * stride, w, stride, scale, out + r * kColumns);
  if (rows - r == 3) tile<3>(x + r * stride, w, stride, scale, out + r * kColumns);
  if (rows - r == 2) tile<2>(x + r * stride, w, stride, scale, out + r * kColumns);
  if (rows - r == 1) tile<1>(x + r * stride, w, stride, scale, out + r * kColumns);
}
constexpr auto* tiles = dispatched<tiles_body>;

// Row `row` of x as f32, zeros up to whole lanes.
void widen(const Plan& plan, int64_t row, float* x) noexcept {
  for (const Term& term : plan.product.terms) {
    const int64_t k = term.a.columns, stride = padded(k);
    float* const to = x + row * stride;
    if (term.a.codec == &kBf16)
      from_bf16(reinterpret_cast<const uint16_t*>(term.a.row(row)), to, k);
    else
      term.a.codec->decode(term.a.row(row), to, k);
    std::fill(to + k, to + stride, 0.0f);
    x += aligned(plan.product.m * stride * 4) / 4;
  }
}

// Bias and addend in f32, one rounding.
void store(const Product& p, float* results, int64_t column, int64_t columns) noexcept {
  const int64_t element = p.codec->block_bytes, stride = p.row_bytes ? p.row_bytes : p.n * element;
  for (int64_t r = 0; r < p.m; ++r) {
    float* const values = results + r * kColumns;
    const int64_t offset = r * stride + column * element;
    if (p.bias)
      for (int64_t c = 0; c < columns; ++c) values[c] += p.bias[column + c];
    if (p.addend) {
      float other[kColumns];
      p.codec->decode(p.addend + offset, other, columns);
      for (int64_t c = 0; c < columns; ++c) values[c] += other[c];
    }
    p.codec->encode(values, p.c + offset, columns);
  }
}

// The same in int8, for a row of x after widen().
void quantise(const Plan& plan, int64_t row, const float* x, std::byte* codes) noexcept {
  for (const Term& term : plan.product.terms) {
    const int64_t k = term.a.columns, stride = padded(k), bytes = int8_row_bytes(term);
    if (bytes) quantise_int8(x + row * stride, k, int8_row(codes + row * bytes, k));
    x += aligned(plan.product.m * stride * 4) / 4;
    codes += aligned(plan.product.m * bytes);
  }
}

// codes: x in int8, or nullptr.
void multiply_columns(const Plan& plan, int64_t begin, int64_t end, const float* all_x, std::byte* all_codes,
                      std::byte* memory) noexcept {
  const Product& p = plan.product;
  float* const weight = reinterpret_cast<float*>(memory);
  float* const results = reinterpret_cast<float*>(memory + plan.weight_bytes);
  for (int64_t column = begin; column < end; column += kColumns) {
    const int64_t columns = std::min(kColumns, end - column);
    std::fill(results, results + p.m * kColumns, 0.0f);
    const float* x = all_x;
    std::byte* codes = all_codes;
    for (const Term& term : p.terms) {
      const int64_t k = term.a.columns, stride = padded(k);
      const int64_t bytes = all_codes ? int8_row_bytes(term) : 0;
      if (bytes) {
        const Int8Dot dot = int8_dot(*term.b.codec);
        for (int64_t c = 0; c < columns; ++c)
          for (int64_t r = 0; r < p.m; ++r)
            results[r * kColumns + c] += term.scale * dot(term.b.row(column + c), int8_row(codes + r * bytes, k), k);
        codes += aligned(p.m * bytes);
      }
      for (int64_t c = 0; c < columns && !bytes; c += kTogether) {
        for (int64_t i = 0; i < std::min<int64_t>(kTogether, columns - c); ++i) {
          term.b.codec->decode(term.b.row(column + c + i), weight + i * stride, k);
          std::fill(weight + i * stride + k, weight + (i + 1) * stride, 0.0f);
        }
        tiles(x, p.m, weight, stride, term.scale, results + c);
      }
      x += aligned(p.m * stride * 4) / 4;
    }
    store(p, results, column, columns);
  }
}

}  // namespace

int64_t narrow_workspace_bytes(const Product& product, int threads) {
  const Plan plan(product);
  return plan.x_bytes + plan.int8_bytes + threads * plan.thread_bytes();
}

void narrow(Threads& threads, Multiply multiply, const Product& product, std::span<std::byte> workspace) noexcept {
  const Plan plan(product);
  float* const x = reinterpret_cast<float*>(workspace.data());
  std::byte* const codes = multiply == Multiply::int8 ? workspace.data() + plan.x_bytes : nullptr;
  for (int64_t row = 0; row < product.m; ++row) {
    widen(plan, row, x);
    if (codes) quantise(plan, row, x, codes);
  }
  threads.split(product.n, kColumns, [&](int64_t begin, int64_t end, int thread) {
    multiply_columns(plan, begin, end, x, codes,
                     workspace.data() + plan.x_bytes + plan.int8_bytes + thread * plan.thread_bytes());
  });
}

}  // namespace thimble
