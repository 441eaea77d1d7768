#include "ops/attention_tile.h"

#include <cmath>
#include <limits>
#include <utility>

#include "core/round.h"
#include "kernels/packed.h"
#include "ops/attention_parts.h"
#include "ops/rows.h"

namespace thimble {
namespace {

constexpr int64_t kKeyTile = 128;

struct Memory {
  int64_t rows, group, width;  // of a tile, heads of a key head, head_dim rounded up to 16
  float *scores, *output, *largest, *sums, *scratch;
  uint16_t* bf16 = nullptr;  // weights, where they are bf16
  std::byte *left, *keys, *values;
  int64_t bytes;

  Memory(std::byte* base, const AttentionAttributes& a, const Codec& q, const Codec& k, Multiply multiply)
      : rows(query_tile(a)), group(a.heads / a.kv_heads), width(round_up(a.head_dim, 16)) {
    int64_t at = 0;
    const auto take = [&](int64_t size) {
      const int64_t begin = std::exchange(at, round_up(at + size, 64));
      return base ? base + begin : nullptr;
    };
    const auto floats = [&](int64_t count) { return reinterpret_cast<float*>(take(4 * count)); };
    const int64_t deepest = std::max(a.head_dim, kKeyTile);
    scores = floats(rows * kKeyTile);
    output = floats(group * rows * width);
    largest = floats(group * rows);
    sums = floats(group * rows);
    scratch = reinterpret_cast<float*>(
        take(std::max(lay_scratch_bytes(multiply, deepest, q), lay_scratch_bytes(multiply, deepest, k))));
    if (weights_form(q, multiply) == Weights::bf16)
      bf16 = reinterpret_cast<uint16_t*>(take(kBf16.bytes(rows * kKeyTile)));
    left = take(left_bytes(multiply, rows, deepest));
    keys = take(right_bytes(multiply, a.head_dim, kKeyTile));
    values = take(right_bytes(multiply, kKeyTile, a.head_dim));
    bytes = at;
  }
};

// Rows [row, row + rows) of a matrix, or of its g-th head.
Matrix part(const Matrix& matrix, int64_t row, int64_t rows, int64_t g = 0) {
  return {matrix.codec, matrix.row(row) + matrix.codec->bytes(g * matrix.columns), rows, matrix.columns,
          matrix.stride()};
}

struct Task {
  const AttentionAttributes& a;
  const AttentionTile& tile;
  const Memory& m;
  const Multiply multiply;
  const Weights form;

  int64_t start(int64_t r) const noexcept { return tile.starts ? tile.starts[r] : 0; }
  int64_t first(int64_t r) const noexcept {
    return a.window ? std::max(start(r), tile.position + r - a.window + 1) : start(r);
  }

  // Scores of a query in the tile of keys become weights; a score that the mask hides weighs nothing. Products read
  // what the last of the rows that are multiplied together sees.
  void weigh(int64_t g, int64_t r, int64_t key, int64_t keys) const noexcept {
    float* const s = m.scores + r * kKeyTile;
    uint16_t* const bf16 = m.bf16 ? m.bf16 + r * kKeyTile : nullptr;
    const int64_t from = std::clamp(first(r) - key, int64_t{0}, keys),
                  to = std::clamp(tile.position + r + 1 - key, from, keys);
    const int64_t seen = from == to ? 0 : round_up(to, 16),
                  read = std::min(kKeyTile, round_up(to + rows_together(multiply), 16));
    if (from < to) {
      constexpr float kHidden = -std::numeric_limits<float>::infinity();
      std::fill(s, s + from, kHidden);
      std::fill(s + to, s + seen, kHidden);
      if (a.cap > 0 || tile.bias) {
        const float* const bias = tile.bias ? tile.bias + g * tile.bias_stride + key + from - start(r) : nullptr;
        shape_scores(s + from, {a.scale, a.cap, bias, a.scale}, to - from);
      }
      const int64_t state = g * m.rows + r;
      const float shrink = attention_row(s, form, bf16, seen, a.scale, m.largest[state], m.sums[state]);
      if (shrink != 1) scale(m.output + state * m.width, shrink, a.head_dim);
    }
    if (bf16)
      std::fill(bf16 + seen, bf16 + read, uint16_t{0});
    else
      std::fill(s + seen, s + read, 0.0f);
  }

  // One tile of keys: rescales what there is, and adds exp(s - max) v. Queries before the first key see none of it.
  void add_keys(int64_t key, int64_t keys) const noexcept {
    lay_right(multiply, part(tile.k, key, keys), true, m.keys, m.scratch);
    lay_right(multiply, part(tile.v, key, keys), false, m.values, m.scratch);
    const int64_t from = std::max<int64_t>(0, key - tile.position), count = tile.rows() - from;
    const int64_t shift = tile.position + from - key;
    for (int64_t g = 0; g < m.group; ++g) {
      multiply_packed(multiply, {.a = lay_left(multiply, part(tile.q, from, count, g), false, m.left, m.scratch),
                                 .b = m.keys,
                                 .m = count,
                                 .k = a.head_dim,
                                 .n = keys,
                                 .c = m.scores + from * kKeyTile,
                                 .stride = kKeyTile,
                                 .reach = {Reach::columns_to, shift}});
      for (int64_t r = from; r < tile.rows(); ++r) weigh(g, r, key, keys);
      const Codec& codec = m.bf16 ? kBf16 : kF32;
      const auto* const weights =
          m.bf16 ? reinterpret_cast<std::byte*>(m.bf16) : reinterpret_cast<std::byte*>(m.scores);
      const Matrix p{&codec, weights + from * codec.bytes(kKeyTile), count, keys, codec.bytes(kKeyTile)};
      multiply_packed(multiply, {.a = lay_left(multiply, p, false, m.left, m.scratch),
                                 .b = m.values,
                                 .m = count,
                                 .k = keys,
                                 .n = a.head_dim,
                                 .c = m.output + (g * m.rows + from) * m.width,
                                 .stride = m.width,
                                 .accumulate = true,
                                 .reach = {Reach::depth_to, shift}});
    }
  }

  void finish(int64_t g) const noexcept {
    const Matrix y = part(tile.y, 0, tile.rows(), g);
    for (int64_t r = 0; r < tile.rows(); ++r) {
      const int64_t state = g * m.rows + r;
      scale(m.output + state * m.width, 1 / m.sums[state], a.head_dim);
      encode_run(*y.codec, m.output + state * m.width, const_cast<std::byte*>(y.row(r)), a.head_dim);
      if (tile.lse) tile.lse[r * a.heads + g] = m.largest[state] + std::log(m.sums[state]);
    }
  }

  void run() const noexcept {
    std::fill(m.largest, m.largest + m.group * m.rows, -std::numeric_limits<float>::infinity());
    std::fill(m.sums, m.sums + m.group * m.rows, 0.0f);
    std::fill(m.output, m.output + m.group * m.rows * m.width, 0.0f);
    const int64_t end = tile.position + tile.rows();
    int64_t begin = end;
    for (int64_t r = 0; r < tile.rows(); ++r) begin = std::min(begin, first(r));
    for (int64_t key = begin / kKeyTile * kKeyTile; key < end; key += kKeyTile)
      add_keys(key, std::min(kKeyTile, end - key));
    for (int64_t g = 0; g < m.group; ++g) finish(g);
  }
};

}  // namespace

int64_t query_tile(const AttentionAttributes& a) {
  const int64_t group = a.heads / a.kv_heads;
  return std::clamp<int64_t>(round_up(192 / group, 8), 64, 192);
}

int64_t attention_tile_bytes(const AttentionAttributes& a, const Codec& q, const Codec& k, Multiply multiply) {
  return Memory(nullptr, a, q, k, multiply).bytes;
}

void attend_tile(const AttentionAttributes& a, const AttentionTile& tile, Multiply multiply,
                 std::byte* memory) noexcept {
  Task{a, tile, Memory(memory, a, *tile.q.codec, *tile.k.codec, multiply), multiply,
       weights_form(*tile.q.codec, multiply)}
      .run();
}

}  // namespace thimble
