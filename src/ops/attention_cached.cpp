// attention_cached: attention of new rows over a cache of keys and values, for generation.
//
// Row i belongs to sequence slots[i] and stands at positions[i]. Its k and v are first written to cache[slot,
// position]; then it sees positions max(0, position - window + 1) .. position of its slot. The cache's codec is its
// own.
#include "ops/attention_cached.h"

#include <cmath>

#include "ops/attention_parts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

using namespace cached;

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("attention_cached", in, 8));
  CHECK_OK(expect_heads("attention_cached", of(any), in[kQ], in[kK], in[kV]));
  CHECK_OK(expect_rank("attention_cached", "cache_k", in[kCacheK], 3));
  CHECK_OK(expect_shape("attention_cached", "cache_v", in[kCacheV], in[kCacheK].shape));
  for (const int cache : {kCacheK, kCacheV})
    if (of(any).head_dim % in[static_cast<size_t>(cache)].codec->block != 0)
      return fail(ErrorCode::shape, "attention_cached: heads of {} are no whole blocks of {} ({})", of(any).head_dim,
                  in[static_cast<size_t>(cache)].codec->name, in[static_cast<size_t>(cache)].codec->block);
  CHECK_OK(expect_shape("attention_cached", "k", in[kK], {in[kQ].shape[0], in[kCacheK].shape[2]}));
  CHECK_OK(expect_indices("attention_cached", "slots", in[kSlots], in[kQ].shape[0]));
  CHECK_OK(expect_indices("attention_cached", "positions", in[kPositions], in[kQ].shape[0]));
  CHECK_OK(expect_bias("attention_cached", of(any), in[kBias]));
  return std::vector{in[kQ], in[kCacheK], in[kCacheV]};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  const int64_t rows = row_buffer_bytes(in[kK].shape[1], 1, threads);
  return std::max(rows, of(any).tiles ? cached::fill_workspace_bytes(of(any), in[kQ], in[kCacheK], multiply, threads)
                                      : cached::step_workspace_bytes(of(any), in[kQ], in[kCacheK], threads));
}

void store(const Operand& cache, const Operand& rows, int64_t row, int64_t place, float* buffer) noexcept {
  const int64_t n = cache.shape[2];
  if (cache.codec == rows.codec)
    std::memcpy(cache.data + place * cache.codec->bytes(n), rows.data + row * rows.codec->bytes(n),
                static_cast<size_t>(rows.codec->bytes(n)));
  else
    write_row(cache, place, n, read_row(rows, row, n, buffer));
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[kK].shape[1], places = call.in[kCacheK].shape[1];
  call.run.threads.split(call.in[kQ].shape[0], 32, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t row = begin; row < end; ++row) {
      const cached::Seen s = cached::seen(call, row);
      for (int i : {1, 2})
        store(call.out[i], call.in[i], row, s.slot * places + s.position, row_buffer(call, n, 1, thread, 0));
    }
  });
  call.as<AttentionAttributes>().tiles ? cached::fill(call) : cached::step(call);
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
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
        weights.push_back(std::exp(shaped_score(a, s, call.in[kBias], h, p)));
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

[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](AttentionAttributes a, int64_t slots, int64_t places, std::vector<int32_t> slot,
                       std::vector<int32_t> position, const Codec* codec, const Codec* cached = nullptr,
                       bool biased = false) {
    const int64_t rows = static_cast<int64_t>(slot.size());
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    const Type cache{{slots, places, a.kv_heads * a.head_dim}, cached ? cached : codec}, index{{rows}, &kI32};
    const Type bias = biased ? Type{{a.heads, places}} : Type{.codec = nullptr};
    return Sample{a, {q, k, k, cache, cache, index, index, bias}, {{}, {}, {}, {}, {}, slot, position}};
  };
  // Slots and positions of `count` rows that follow one another, added to those before.
  std::vector<int32_t> slot, position;
  const auto follow = [&](int32_t in, int32_t from, int count) {
    for (int i = 0; i < count; ++i) slot.push_back(in), position.push_back(from + i);
  };
  std::vector<Sample> samples = {make({4, 2, 6, 0, 0.5}, 3, 9, {0, 0, 2, 1}, {0, 1, 5, 8}, &kF32),
                                 make({2, 1, 8, 3, 0.5}, 2, 20, {1, 0}, {17, 2}, &kBf16),
                                 make({9, 3, 64, 0, 0.125}, 2, 700, {1, 0, 0}, {699, 300, 301}, &kBf16),
                                 make({6, 2, 32, 0, 0.2}, 2, 90, {1, 0}, {70, 33}, &kBf16, &kQ8_0),
                                 make({5, 1, 16, 300, 0.25}, 1, 600, {0}, {520}, &kF32)};
  follow(1, 0, 37), follow(0, 3, 1), follow(2, 130, 21), follow(0, 4, 2);
  for (const Codec* codec : {&kF32, &kBf16})
    for (int64_t window : {0, 50})
      samples.push_back(make({6, 2, 10, window, 0.3f, 0, 0, true}, 3, 151, slot, position, codec));
  samples.push_back(make({6, 2, 32, 0, 0.2f, 0, 0, true}, 3, 151, slot, position, &kBf16, &kQ8_0));
  samples.push_back(make({6, 2, 10, 50, 0.3f, 1.5, 0, true}, 3, 151, slot, position, &kF32, nullptr, true));
  samples.push_back(make({6, 2, 10, 50, 0.3f, 1.5}, 3, 151, {2, 0, 2}, {150, 7, 3}, &kF32, nullptr, true));
  return samples;
}

constexpr InPlace kCaches[] = {{1, 3, true}, {2, 4, true}};

}  // namespace

const Op kAttentionCached = {.name = "attention_cached",
                             .infer = infer,
                             .text = attention_text,
                             .workspace = workspace,
                             .cost = cost,
                             .reference = reference,
                             .run = run,
                             .samples = samples,
                             .in_place = kCaches};

}  // namespace thimble
