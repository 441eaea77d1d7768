// What attention, its gradient and attention over a cache share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/round.h"
#include "kernels/math.h"
#include "kernels/packed.h"
#include "kernels/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {

// Rows [row, row + rows) of one head of a [t, heads * head_dim] operand.
inline Matrix head_rows(const Operand& x, int64_t head, int64_t head_dim, int64_t row, int64_t rows) noexcept {
  const int64_t element = x.codec->block_bytes, columns = x.shape[1];
  return {x.codec, x.data + (row * columns + head * head_dim) * element, rows, head_dim, columns * element};
}

inline Result<void> expect_heads(const char* op, const AttentionAttributes& a, const Type& q, const Type& k,
                                 const Type& v) {
  CHECK_OK(expect_rank(op, "q", q, 2));
  for (const auto& [operand, type] : {std::pair{"q", &q}, {"k", &k}, {"v", &v}})
    CHECK_OK(expect_elements(op, operand, *type));
  if (a.heads <= 0 || a.kv_heads <= 0 || a.heads % a.kv_heads)
    return fail(ErrorCode::shape, "{}: {} heads do not share {} key heads evenly", op, a.heads, a.kv_heads);
  if (!(a.scale > 0)) return fail(ErrorCode::shape, "{}: the scale should be positive, found {}", op, a.scale);
  if (!(a.cap >= 0)) return fail(ErrorCode::shape, "{}: the cap of scores should not be negative, found {}", op, a.cap);
  CHECK_OK(expect_shape(op, "q", q, {q.shape[0], a.heads * a.head_dim}));
  CHECK_OK(expect_shape(op, "k", k, {q.shape[0], a.kv_heads * a.head_dim}));
  return expect_shape(op, "v", v, k.shape);
}

// A constant f32 [heads, positions], or nothing.
inline Result<void> expect_bias(const char* op, const AttentionAttributes& a, const Type& bias) {
  if (absent(bias)) return {};
  CHECK_OK(expect_rank(op, "bias", bias, 2));
  CHECK_OK(expect_f32(op, "bias", bias));
  if (bias.shape[0] != a.heads)
    return fail(ErrorCode::shape, "{}: bias should have {} rows, one a head, found {}", op, a.heads, bias.shape[0]);
  return {};
}

inline std::string attention_text(const std::any& any) {
  const AttentionAttributes& a = *std::any_cast<AttentionAttributes>(&any);
  const std::string cap = a.cap > 0 ? fmt::format(", cap {}", a.cap) : "";
  return fmt::format("{{{} heads, {} kv, {} wide, window {}, scale {}{}{}}}", a.heads, a.kv_heads, a.head_dim, a.window,
                     a.scale, cap, a.tiles ? ", tiles" : "");
}

// Pairs of a query and a key that are computed: half of the square of each sequence.
inline double causal_pairs(const AttentionAttributes& a, int64_t rows) {
  int64_t seen = a.longest ? std::min(rows, a.longest) : rows;
  if (a.window) seen = std::min(seen, 2 * a.window);
  return 0.5 * static_cast<double>(rows) * static_cast<double>(seen);
}

// Weights are rounded as activations are, and lie as the products want them.
inline Weights weights_form(const Codec& activations, Multiply multiply) {
  if (&activations != &kBf16) return Weights::f32;
  return micro_kernel(multiply).pair == 2 ? Weights::bf16 : Weights::rounded;
}

// The score of a query and a key whose product is `product`, for the reference. `place` is the key's number in its
// sequence.
inline double shaped_score(const AttentionAttributes& a, double product, const ReferenceOperand& bias, int64_t head,
                           int64_t place) {
  double score = a.scale * product;
  if (a.cap > 0) score = a.cap * std::tanh(score / a.cap);
  return bias ? score + bias[head * bias.shape[1] + place] : score;
}

// Which keys a query may see: row i sees max(starts[i], i - window + 1) .. i.
struct AttentionMask {
  const int32_t* starts;
  int64_t window;  // 0: none

  int64_t first(int64_t row) const noexcept {
    const int64_t start = starts[row];
    return window ? std::max(start, row - window + 1) : start;
  }
  // The least of rows [row, end).
  int64_t first_of(int64_t row, int64_t end) const noexcept {
    int64_t least = first(row);
    for (int64_t i = row + 1; i < end; ++i) least = std::min(least, first(i));
    return least;
  }
};

// The products of attention's gradient and of its derivative along a direction, in a thread's memory.
struct TileProducts {
  Multiply multiply;
  std::byte* left;  // room of left_bytes()
  float* scratch;

  void lay(const Matrix& matrix, bool transposed, std::byte* room) const noexcept {
    lay_right(multiply, matrix, transposed, room, scratch);
  }
  // c [rows of a, n] = a b, or is added to; b is laid out.
  enum class Into { fresh, sum };
  void times(const Matrix& a, bool transposed, const std::byte* b, int64_t n, float* c, int64_t stride, Into into,
             Reach reach) const noexcept {
    multiply_packed(multiply, {.a = lay_left(multiply, a, transposed, left, scratch),
                               .b = b,
                               .m = transposed ? a.columns : a.rows,
                               .k = transposed ? a.rows : a.columns,
                               .n = n,
                               .c = c,
                               .stride = stride,
                               .accumulate = into == Into::sum,
                               .reach = reach});
  }
};

// Of `rows` queries, those that products with a tile's weights read of key j, `shift` keys behind the first query: from
// this one on, as one of the keys or queries that are multiplied together sees or is seen.
inline int64_t first_query_read(Multiply multiply, int64_t shift, int64_t j, int64_t rows) noexcept {
  const int64_t first = std::clamp(shift + round_down(j, rows_together(multiply)), int64_t{0}, rows);
  return round_down(first, std::max<int64_t>(16, depths_together(multiply)));
}

// Scores of a key and the queries [from, rows) of a tile, as attention shapes them, over its scale. dp becomes
// D + (dp - D) (1 - tanh^2), so that p (dp - D) is the gradient of the score before the cap. `starts`: of the tile's
// queries; key: its number in the batch.
inline void shape_key_row(const AttentionAttributes& a, const Operand& bias, int64_t head, const int32_t* starts,
                          int64_t key, int64_t from, int64_t rows, const float* delta, float* s, float* dp) noexcept {
  if (a.cap <= 0 && !bias) return;
  const float* const by_place = bias ? bias.as<const float>() + head * bias.shape[1] : nullptr;
  for (int64_t r = from; r < rows; ++r) {
    float score = a.scale * s[r];
    if (a.cap > 0) {
      const float t = tanh_f32(score / a.cap);
      dp[r] = delta[r] + (dp[r] - delta[r]) * (1 - t * t);
      score = a.cap * t;
    }
    // A key of another sequence may be farther away than the bias reaches; the mask hides it.
    if (by_place) score += by_place[std::clamp<int64_t>(key - starts[r], 0, bias.shape[1] - 1)];
    s[r] = score / a.scale;
  }
}

constexpr int64_t kGradientTile = 128;  // of queries and of keys

// Transposed scores of a tile and their gradients, [keys, kGradientTile], which become weights p^T and ds^T.
struct TileScores {
  float *s, *dp;
  const float *lse, *delta, *first;  // of the queries; lse by kLog2E
  Weights form;
  uint16_t *p16 = nullptr, *ds16 = nullptr;  // where weights are bf16
};

// The row of key `key + j`, of which queries [row, row + rows) with these starts see some, zero where the mask hides.
// all: it hides nothing. Returns the first query whose weights are made; those before it are not read.
inline int64_t weigh_key(const AttentionAttributes& a, Multiply multiply, const TileScores& t, const Operand& bias,
                         int64_t head, const int32_t* starts, int64_t row, int64_t rows, int64_t key, int64_t j,
                         bool all) noexcept {
  const int64_t from = first_query_read(multiply, key - row, j, rows), begin = j * kGradientTile, at = begin + from;
  shape_key_row(a, bias, head, starts, key + j, from, rows, t.delta, t.s + begin, t.dp + begin);
  attention_gradient_row({.s = t.s + at,
                          .dp = t.dp + at,
                          .lse = t.lse + from,
                          .delta = t.delta + from,
                          .first = all ? nullptr : t.first + from,
                          .query = static_cast<float>(row + from),
                          .key = static_cast<float>(key + j),
                          .scale = a.scale,
                          .scale2 = a.scale * kLog2E,
                          .n = round_up(rows, 16) - from,
                          .form = t.form,
                          .p16 = t.p16 ? t.p16 + at : nullptr,
                          .ds16 = t.ds16 ? t.ds16 + at : nullptr});
  return from;
}

}  // namespace thimble
