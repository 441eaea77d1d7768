// Rows that follow one another in one slot are tiles of attention over the cache, so how a prompt is cut changes
// nothing.
#include "ops/attention_cached.h"
#include "ops/attention_parts.h"
#include "ops/attention_tile.h"

namespace thimble::cached {
namespace {

// Rows [row, row + rows) of the call, one after another in a slot.
struct Rows {
  int64_t row, rows;
};

// The most rows from `row` on that follow one another in a slot, up to `most`.
Rows following(const Call& call, int64_t row, int64_t most) noexcept {
  const Seen first = seen(call, row);
  const int64_t end = std::min(call.in[kQ].shape[0], row + most);
  int64_t next = row + 1;
  for (; next < end; ++next) {
    const Seen s = seen(call, next);
    if (s.slot != first.slot || s.position != first.position + (next - row)) break;
  }
  return {row, next - row};
}

}  // namespace

int64_t fill_workspace_bytes(const AttentionAttributes& attributes, const Type& q, const Type& cache, Multiply multiply,
                             int threads) {
  return threads * attention_tile_bytes(attributes, *q.codec, *cache.codec, multiply);
}

void fill(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[kQ].shape[0], group = a.heads / a.kv_heads, d = a.head_dim, tile = query_tile(a);
  const int64_t bytes = attention_tile_bytes(a, *call.in[kQ].codec, *call.in[kCacheK].codec, call.run.multiply);
  const Operand& bias = call.in[kBias];
  int64_t tiles = 0;
  for (Rows rows{0, 0}; rows.row < total; rows.row += rows.rows, ++tiles) rows = following(call, rows.row, tile);
  call.run.threads.share(tiles * a.kv_heads, [&](int64_t begin, int64_t end, int thread) {
    int64_t task = 0;
    for (Rows rows{0, 0}; rows.row < total && task < end; rows.row += rows.rows) {
      rows = following(call, rows.row, tile);
      const Seen s = seen(call, rows.row);
      for (int64_t kv = 0; kv < a.kv_heads; ++kv, ++task) {
        if (task < begin || task >= end) continue;
        const auto cached = [&](const Operand& cache) {
          return Matrix{cache.codec, at(cache, a, s.slot, 0, kv), cache.shape[1], d,
                        cache.codec->bytes(cache.shape[2])};
        };
        attend_tile(a,
                    {.q = head_rows(call.in[kQ], kv * group, d, rows.row, rows.rows),
                     .y = head_rows(call.out[0], kv * group, d, rows.row, rows.rows),
                     .k = cached(call.out[1]),
                     .v = cached(call.out[2]),
                     .position = s.position,
                     .bias = bias ? bias.as<const float>() + kv * group * bias.shape[1] : nullptr,
                     .bias_stride = bias ? bias.shape[1] : 0},
                    call.run.multiply, call.workspace.data() + thread * bytes);
      }
    }
  });
}

}  // namespace thimble::cached
