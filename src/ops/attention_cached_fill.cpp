// Tiles of rows that follow one another in one slot meet tiles of kKeyTile positions, as in attention.cpp. All query
// heads that share keys are stacked into one tile of queries. Key tiles begin at multiples of kKeyTile, and products do
// not depend on the number of rows, so how a prompt is cut changes nothing.
#include <limits>

#include "core/round.h"
#include "kernels/math.h"
#include "ops/attention_cached.h"
#include "ops/rows.h"

namespace thimble::cached {
namespace {

constexpr int64_t kKeyTile = 128;
constexpr int64_t kStackedRows = 96;  // rows times heads that share keys

// C [m, n] f32, tight.
struct Pair {
  Matrix a, b;
  bool b_transposed;
  float* c;
  bool accumulate;
};
void multiply(Multiply multiply, const Pair& pair, std::span<std::byte> workspace) noexcept {
  const Term term{pair.a, pair.b, false, pair.b_transposed, 1};
  gemm_serial(multiply,
              {.terms = {&term, 1},
               .codec = &kF32,
               .c = reinterpret_cast<std::byte*>(pair.c),
               .m = pair.a.rows,
               .n = pair.b_transposed ? pair.b.rows : pair.b.columns,
               .accumulate = pair.accumulate},
              workspace);
}

// One thread's memory.
struct Plan {
  int64_t group, rows;  // of a tile; rows of one head
  int64_t product_bytes = 0, scores_bytes, output_bytes, queries_bytes, weights_bytes;

  Plan(const AttentionAttributes& a, const Codec& q, const Codec& cache, Multiply multiply)
      : group(a.heads / a.kv_heads), rows(std::max<int64_t>(8, kStackedRows / group)) {
    const int64_t m = group * rows, d = a.head_dim;
    // A tile of keys may be shorter, and its length odd: rows are then packed.
    for (int64_t keys : {kKeyTile, kKeyTile - 1}) {
      const Term scores{{&q, nullptr, m, d}, {&cache, nullptr, keys, d}, false, true, 1};
      const Term mix{{&q, nullptr, m, keys}, {&cache, nullptr, keys, d}, false, false, 1};
      product_bytes =
          std::max({product_bytes, gemm_workspace_bytes(multiply, {.terms = {&scores, 1}, .m = m, .n = keys}, 1),
                    gemm_workspace_bytes(multiply, {.terms = {&mix, 1}, .m = m, .n = d}, 1)});
    }
    scores_bytes = round_up(4 * m * kKeyTile, 64);
    output_bytes = round_up(4 * m * (d + 2), 64);
    queries_bytes = round_up(m * q.bytes(d), 64);
    weights_bytes = round_up(m * q.bytes(kKeyTile), 64);
  }
  int64_t bytes() const {
    return round_up(product_bytes, 64) + scores_bytes + output_bytes + queries_bytes + weights_bytes;
  }
};

// Rows [row, row + rows) of the call, one after another in a slot.
struct Rows {
  int64_t row, rows;
};

class Tile {
 public:
  Tile(const Call& call, const Plan& plan, std::byte* memory) : call_(call), plan_(plan) {
    scores_ = reinterpret_cast<float*>(memory);
    output_ = reinterpret_cast<float*>(memory += plan.scores_bytes);
    largest_ = output_ + plan.group * plan.rows * a_.head_dim;
    sums_ = largest_ + plan.group * plan.rows;
    queries_ = memory += plan.output_bytes;
    weights_ = memory += plan.queries_bytes;
    product_ = {memory + plan.weights_bytes, static_cast<size_t>(plan.product_bytes)};
  }

  void attend(const Rows& rows, int64_t kv) noexcept {
    const int64_t stacked = plan_.group * rows.rows, d = a_.head_dim;
    copy_heads(rows, kv);
    std::fill(largest_, largest_ + stacked, -std::numeric_limits<float>::infinity());
    std::fill(sums_, sums_ + stacked, 0.0f);
    std::fill(output_, output_ + stacked * d, 0.0f);
    const int64_t end = seen(call_, rows.row + rows.rows - 1).position + 1;
    for (int64_t key = seen(call_, rows.row).first / kKeyTile * kKeyTile; key < end; key += kKeyTile)
      add_keys(rows, kv, key, std::min(kKeyTile, end - key));
    const Operand& y = call_.out[0];
    for (int64_t i = 0; i < stacked; ++i) {
      scale(output_ + i * d, 1 / sums_[i], d);
      y.codec->encode(output_ + i * d, y.data + element(rows, kv, i) * y.codec->block_bytes, d);
    }
  }

 private:
  // First element of row i of the tile in q and y: head i / rows of the group.
  int64_t element(const Rows& rows, int64_t kv, int64_t i) const noexcept {
    const int64_t head = kv * plan_.group + i / rows.rows;
    return ((rows.row + i % rows.rows) * a_.heads + head) * a_.head_dim;
  }

  void copy_heads(const Rows& rows, int64_t kv) noexcept {
    const Operand& q = call_.in[kQ];
    const int64_t bytes = q.codec->bytes(a_.head_dim);
    for (int64_t i = 0; i < plan_.group * rows.rows; ++i)
      std::memcpy(queries_ + i * bytes, q.data + element(rows, kv, i) * q.codec->block_bytes,
                  static_cast<size_t>(bytes));
  }

  // Rescales what there is, and adds exp(s - largest) v for keys [key, key + keys).
  void add_keys(const Rows& rows, int64_t kv, int64_t key, int64_t keys) noexcept {
    const Codec* const codec = call_.in[kQ].codec;
    const int64_t stacked = plan_.group * rows.rows, slot = seen(call_, rows.row).slot;
    const auto cached = [&](const Operand& cache) {
      return Matrix{cache.codec, at(cache, a_, slot, key, kv), keys, a_.head_dim, cache.codec->bytes(cache.shape[2])};
    };
    multiply(call_.run.multiply, {{codec, queries_, stacked, a_.head_dim}, cached(call_.out[1]), true, scores_, false},
             product_);
    for (int64_t i = 0; i < stacked; ++i) weigh(i, seen(call_, rows.row + i % rows.rows), key, keys);
    multiply(call_.run.multiply, {{codec, weights_, stacked, keys}, cached(call_.out[2]), false, output_, true},
             product_);
  }

  // Scores of row i to weights; zeros where it sees nothing.
  void weigh(int64_t i, const Seen& s, int64_t key, int64_t keys) noexcept {
    const Codec* const codec = call_.in[kQ].codec;
    const int64_t from = std::clamp(s.first - key, int64_t{0}, keys), to = std::clamp(s.position + 1 - key, from, keys);
    float* const scores = scores_ + i * keys;
    std::byte* const weights = weights_ + i * codec->bytes(keys);
    if (from == to) {
      std::memset(weights, 0, static_cast<size_t>(codec->bytes(keys)));
      return;
    }
    scale(scores + from, a_.scale, to - from);
    const float largest = std::max(largest_[i], max(scores + from, to - from));
    const float shrink = exp_f32(largest_[i] - largest);
    sums_[i] = sums_[i] * shrink + exp_sum(scores + from, largest, to - from);
    largest_[i] = largest;
    if (shrink != 1) scale(output_ + i * a_.head_dim, shrink, a_.head_dim);
    std::fill(scores, scores + from, 0.0f);
    std::fill(scores + to, scores + keys, 0.0f);
    codec->encode(scores, weights, keys);
  }

  const Call& call_;
  const Plan& plan_;
  const AttentionAttributes& a_ = call_.as<AttentionAttributes>();
  float *scores_, *output_, *largest_, *sums_;
  std::byte *queries_, *weights_;
  std::span<std::byte> product_;
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
  return threads * Plan(attributes, *q.codec, *cache.codec, multiply).bytes();
}

void fill(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const Plan plan(a, *call.in[kQ].codec, *call.in[kCacheK].codec, call.run.multiply);
  const int64_t total = call.in[kQ].shape[0];
  call.run.threads.each([&](int thread) {
    Tile tile(call, plan, call.workspace.data() + thread * plan.bytes());
    int64_t task = 0;
    for (Rows rows{0, 0}; rows.row < total; rows.row += rows.rows) {
      rows = following(call, rows.row, plan.rows);
      for (int64_t kv = 0; kv < a.kv_heads; ++kv, ++task)
        if (task % call.run.threads.count() == thread) tile.attend(rows, kv);
    }
  });
}

}  // namespace thimble::cached
