// attention_cached: attention of new rows over a cache of keys and values, for generation.
//
// Row i belongs to sequence slots[i] and stands at positions[i]. Its k and v are first written to cache[slot,
// position]; then it sees positions max(0, position - window + 1) .. position of its slot. The cache's codec is its
// own.
#include <cmath>

#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

enum In { kQ, kK, kV, kCacheK, kCacheV, kSlots, kPositions };

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("attention_cached", in, 7));
  CHECK_OK(expect_rank("attention_cached", "q", in[kQ], 2));
  CHECK_OK(expect_shape("attention_cached", "q", in[kQ], {in[kQ].shape[0], of(any).heads * of(any).head_dim}));
  CHECK_OK(expect_rank("attention_cached", "cache_k", in[kCacheK], 3));
  CHECK_OK(expect_shape("attention_cached", "cache_v", in[kCacheV], in[kCacheK].shape));
  CHECK_OK(expect_shape("attention_cached", "k", in[kK], {in[kQ].shape[0], in[kCacheK].shape[2]}));
  CHECK_OK(expect_shape("attention_cached", "v", in[kV], in[kK].shape));
  CHECK_OK(expect_shape("attention_cached", "slots", in[kSlots], {in[kQ].shape[0]}));
  CHECK_OK(expect_shape("attention_cached", "positions", in[kPositions], {in[kQ].shape[0]}));
  return std::vector{in[kQ], in[kCacheK], in[kCacheV]};
}

int64_t buffer_columns(const Operand& cache, const AttentionAttributes& a) {
  return std::max({cache.shape[1], a.heads * a.head_dim, a.kv_heads * a.head_dim});
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(buffer_columns({nullptr, in[kCacheK].shape}, of(any)), 5, threads);
}

void store(const Operand& cache, const Operand& rows, int64_t row, int64_t slot, int64_t position,
           float* buffer) noexcept {
  const int64_t n = cache.shape[2];
  write_row(cache, slot * cache.shape[1] + position, n, read_row(rows, row, n, buffer));
}

// One query head over the cache, in the order of positions.
void attend(const Call& call, int64_t row, int64_t head, const float* q, float* y, float* scores,
            float* buffer) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t slot = call.in[kSlots].as<int32_t>()[row], position = call.in[kPositions].as<int32_t>()[row];
  const int64_t first = a.window ? std::max<int64_t>(0, position - a.window + 1) : 0;
  const int64_t kv = head / (a.heads / a.kv_heads) * a.head_dim;
  const auto cached = [&](const Operand& cache, int64_t place) -> const float* {
    const int64_t element = (slot * cache.shape[1] + place) * cache.shape[2] + kv;
    if (cache.codec == &kF32) return cache.as<const float>() + element;
    cache.codec->decode(cache.data + element / cache.codec->block * cache.codec->block_bytes, buffer, a.head_dim);
    return buffer;
  };
  for (int64_t p = first; p <= position; ++p) scores[p - first] = a.scale * dot(q, cached(call.out[1], p), a.head_dim);
  const int64_t count = position - first + 1;
  const float total = exp_sum(scores, max(scores, count), count);
  std::fill(y, y + a.head_dim, 0.0f);
  for (int64_t p = first; p <= position; ++p)
    add_scaled(y, cached(call.out[2], p), scores[p - first] / total, a.head_dim);
}

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t rows = call.in[kQ].shape[0], columns = a.heads * a.head_dim;
  const int64_t wide = buffer_columns(call.in[kCacheK], a);
  call.run.threads.split(rows, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t slot = call.in[kSlots].as<int32_t>()[row], position = call.in[kPositions].as<int32_t>()[row];
      store(call.out[1], call.in[kK], row, slot, position, row_buffer(call, wide, 5, thread, 0));
      store(call.out[2], call.in[kV], row, slot, position, row_buffer(call, wide, 5, thread, 0));
    }
  });
  call.run.threads.each([&](int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, wide, 5, thread, i); };
    for (int64_t task = thread; task < rows * a.heads; task += call.run.threads.count()) {
      const int64_t row = task / a.heads, head = task % a.heads;
      const float* const q = read_row(call.in[kQ], row, columns, buffer(0)) + head * a.head_dim;
      attend(call, row, head, q, buffer(1), buffer(2), buffer(3));
      const Codec* const codec = call.out[0].codec;
      codec->encode(buffer(1), call.out[0].data + (row * columns + head * a.head_dim) * codec->block_bytes, a.head_dim);
    }
  });
}

void reference(const ReferenceCall& call) {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t rows = call.in[kQ].shape[0], d = a.head_dim, kvw = a.kv_heads * d, places = call.in[kCacheK].shape[1];
  for (size_t o : {1, 2})
    for (int64_t i = 0; i < call.out[o].shape.count(); ++i) call.out[o][i] = call.in[o + 2][i];
  const auto at = [&](int64_t row, int64_t place) {
    return (static_cast<int64_t>(call.in[kSlots][row]) * places + place) * kvw;
  };
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t x = 0; x < kvw; ++x) {
      call.out[1][at(row, static_cast<int64_t>(call.in[kPositions][row])) + x] = call.in[kK][row * kvw + x];
      call.out[2][at(row, static_cast<int64_t>(call.in[kPositions][row])) + x] = call.in[kV][row * kvw + x];
    }
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t h = 0; h < a.heads; ++h) {
      const int64_t position = static_cast<int64_t>(call.in[kPositions][row]), kv = h / (a.heads / a.kv_heads) * d;
      const int64_t first = a.window ? std::max<int64_t>(0, position - a.window + 1) : 0;
      std::vector<double> weights;
      double sum = 0;
      for (int64_t p = first; p <= position; ++p) {
        double s = 0;
        for (int64_t x = 0; x < d; ++x)
          s += call.in[kQ][(row * a.heads + h) * d + x] * call.out[1][at(row, p) + kv + x];
        weights.push_back(std::exp(a.scale * s));
        sum += weights.back();
      }
      for (int64_t x = 0; x < d; ++x) {
        double y = 0;
        for (int64_t p = first; p <= position; ++p)
          y += weights[static_cast<size_t>(p - first)] / sum * call.out[2][at(row, p) + kv + x];
        call.out[0][(row * a.heads + h) * d + x] = y;
      }
    }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  return {.bytes = static_cast<double>(in[kCacheK].bytes() + in[kCacheV].bytes() + 2 * in[kQ].bytes())};
}

std::vector<Sample> samples() {
  const auto make = [](AttentionAttributes a, int64_t slots, int64_t places, std::vector<int32_t> slot,
                       std::vector<int32_t> position, const Codec* codec) {
    const int64_t rows = static_cast<int64_t>(slot.size());
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    const Type cache{{slots, places, a.kv_heads * a.head_dim}, codec}, index{{rows}, &kI32};
    return Sample{a, {q, k, k, cache, cache, index, index}, {{}, {}, {}, {}, {}, slot, position}};
  };
  return {make({4, 2, 6, 0, 0.5}, 3, 9, {0, 0, 2, 1}, {0, 1, 5, 8}, &kF32),
          make({2, 1, 8, 3, 0.5}, 2, 20, {1, 0}, {17, 2}, &kBf16)};
}

constexpr InPlace kCaches[] = {{1, 3, true}, {2, 4, true}};

}  // namespace

const Op kAttentionCached = {.name = "attention_cached",
                             .infer = infer,
                             .workspace = workspace,
                             .cost = cost,
                             .reference = reference,
                             .run = run,
                             .samples = samples,
                             .in_place = kCaches};

}  // namespace thimble
