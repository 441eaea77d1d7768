#include "kernels/attend.h"

#include <algorithm>
#include <limits>

#include "core/round.h"
#include "kernels/math.h"
#include "kernels/register_lanes.h"
#include "kernels/rows.h"
#include "kernels/vector.h"

namespace thimble {
namespace {

constexpr int kHeads = 4;  // whose sums are in registers together

// Keys or values as the loops read them: f32 or bf16, `stride` elements apart.
template <class Element>
struct Table {
  const Element* data;
  int64_t stride;
  const Element* next;  // rows that are fetched meanwhile

  Table from(int64_t row, int64_t column) const {
    return {data + row * stride + column, stride, next + row * stride + column};
  }
};
constexpr int64_t kLine = 64;

// Scores of a head in memory: whole lanes.
constexpr int64_t padded(int64_t positions) { return round_up(positions, kLanes); }

// sums[h] = sum over x of q[h][x] * key[x], in lanes, heads [0, H). q is taken apart where keys are bf16.
template <int H, int bytes>
THIMBLE_BODY void dot_lanes(const float* q, const float* key, int64_t width, RegisterLanes<bytes>* sums) noexcept {
  using In = RegisterLanes<bytes>;
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) sums[h] = In{};
  for (int64_t x = 0; x < width; x += kLanes) {
    const In k = load<In>(key + x);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) sums[h] = sums[h] + load<In>(q + h * width + x) * k;
  }
}
template <int H, int bytes>
THIMBLE_BODY void dot_lanes(const float* q, const uint16_t* key, int64_t width, RegisterLanes<bytes>* sums) noexcept {
  using In = RegisterLanes<bytes>;
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) sums[h] = In{};
  for (int64_t x = 0; x < width; x += 2 * kLanes) {
    const RegisterPair<bytes> k = pair_of(load<RegisterWords<bytes>>(key + x));
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
      sums[h] = sums[h] + load<In>(q + h * width + x) * k.even;
      sums[h] = sums[h] + load<In>(q + h * width + x + kLanes) * k.odd;
    }
  }
}

// scores[h][p] = scale * dot(q[h], keys[p]) for 16 positions and heads [0, H). Of those, `count` are there: weights of
// the others become nothing. A head's scores are `stride` apart.
template <int H, int bytes, class Element>
THIMBLE_BODY void score16(const Attend& a, const float* q, const Table<Element>& keys, int64_t count, float* scores,
                          int64_t stride) noexcept {
  RegisterLanes<bytes> sums[H][16];
  for (int64_t i = 0; i < count; ++i) {
    RegisterLanes<bytes> of_key[H];
    const int64_t at = i * keys.stride;
    for (int64_t x = 0; x < padded_head(a.head_dim); x += kLine / static_cast<int64_t>(sizeof(Element)))
      __builtin_prefetch(keys.next + at + x);
    dot_lanes<H, bytes>(q, keys.data + at, padded_head(a.head_dim), of_key);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) sums[h][i] = of_key[h];
  }
  for (int h = 0; h < H; ++h) {
    for (int64_t i = count; i < 16; ++i) sums[h][i] = sums[h][0];
    store(fold_all(sums[h]) * a.scale, scores + h * stride);
    std::fill(scores + h * stride + count, scores + h * stride + 16, -std::numeric_limits<float>::infinity());
  }
}

// use.template operator()<H>(h): heads [h, h + H), at most kHeads at a time.
template <class Use>
THIMBLE_BODY void for_heads(int64_t heads, const Use& use) noexcept {
  int64_t h = 0;
  for (; h + kHeads <= heads; h += kHeads) use.template operator()<kHeads>(h);
  if (heads - h == 3) use.template operator()<3>(h);
  if (heads - h == 2) use.template operator()<2>(h);
  if (heads - h == 1) use.template operator()<1>(h);
}

template <class Element, int bytes>
THIMBLE_BODY void scores_body(const Attend& a, const Table<Element>& keys, int64_t positions, float* scores) noexcept {
  for (int64_t p = 0; p < positions; p += 16)
    for_heads(
        a.heads, [&]<int H>(int64_t h) __attribute__((always_inline)) {
          score16<H, bytes, Element>(a, a.q + h * padded_head(a.head_dim), keys.from(p, 0),
                                     std::min<int64_t>(16, positions - p), scores + h * padded(positions) + p,
                                     padded(positions));
        });
}

// out[h][0 .. 16), for bf16 [0 .. 32) = sum over p of weights[h][p] * values[p], heads [0, H).
template <int H, int bytes>
THIMBLE_BODY void mix_columns(const float* weights, const Table<float>& values, int64_t positions, float* out,
                              int64_t width) noexcept {
  RegisterLanes<bytes> sums[H] = {};
  for (int64_t p = 0; p < positions; ++p) {
    __builtin_prefetch(values.next + p * values.stride);
    const auto value = load<RegisterLanes<bytes>>(values.data + p * values.stride);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) sums[h] = sums[h] + value * weights[h * padded(positions) + p];
  }
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) store(sums[h], out + h * width);
}
template <int H, int bytes>
THIMBLE_BODY void mix_columns(const float* weights, const Table<uint16_t>& values, int64_t positions, float* out,
                              int64_t width) noexcept {
  RegisterPair<bytes> sums[H] = {};
  for (int64_t p = 0; p < positions; ++p) {
    __builtin_prefetch(values.next + p * values.stride);
    const RegisterPair<bytes> value = pair_of(load<RegisterWords<bytes>>(values.data + p * values.stride));
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) {
      sums[h].even = sums[h].even + value.even * weights[h * padded(positions) + p];
      sums[h].odd = sums[h].odd + value.odd * weights[h * padded(positions) + p];
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) interleave(sums[h], out + h * width);
}

template <class Element>
constexpr int64_t kColumns = sizeof(Element) == 2 ? 2 * kLanes : kLanes;

template <class Element, int bytes>
THIMBLE_BODY void mix_body(const Attend& a, const float* weights, const Table<Element>& values, int64_t positions,
                           float* out) noexcept {
  const int64_t width = padded_head(a.head_dim);
  for (int64_t x = 0; x < width; x += kColumns<Element>) {
    const Table<Element> column = values.from(0, x);
    for_heads(
        a.heads, [&]<int H>(int64_t h) __attribute__((always_inline)) {
          mix_columns<H, bytes>(weights + h * padded(positions), column, positions, out + h * width + x, width);
        });
  }
}

template <int bytes>
THIMBLE_BODY void join_body(const SoftmaxParts& parts, int64_t width, float* y) noexcept {
  using In = RegisterLanes<bytes>;
  constexpr int64_t kAtOnce = 32;
  float largest = parts.partial->largest, sum = 0;
  for (int64_t c = 1; c < parts.count; ++c)
    largest = std::max(largest, parts.partial[c * parts.partial_stride].largest);
  std::fill(y, y + width, 0.0f);
  for (int64_t first = 0; first < parts.count; first += kAtOnce) {
    const int64_t count = std::min(kAtOnce, parts.count - first);
    float weights[kAtOnce];
    for (int64_t c = 0; c < count; ++c) {
      const PartialSoftmax& part = parts.partial[(first + c) * parts.partial_stride];
      weights[c] = exp_f32(part.largest - largest);
      sum += weights[c] * part.sum;
    }
    for (int64_t x = 0; x < width; x += kLanes) {
      In all = load<In>(y + x);
      for (int64_t c = 0; c < count; ++c)
        all = all + load<In>(parts.out + (first + c) * parts.out_stride + x) * weights[c];
      store(all, y + x);
    }
  }
  for (int64_t x = 0; x < width; x += kLanes) store(load<In>(y + x) * (1 / sum), y + x);
}

template <class Element>
constexpr auto* all_scores = dispatched<scores_body<Element, 64>, scores_body<Element, 32>, scores_body<Element, 16>>;
template <class Element>
constexpr auto* mix = dispatched<mix_body<Element, 64>, mix_body<Element, 32>, mix_body<Element, 16>>;

bool reads_directly(const Codec& codec, int64_t head_dim) {
  return (&codec == &kF32 && head_dim % kLanes == 0) || (&codec == &kBf16 && head_dim % (2 * kLanes) == 0);
}

template <class Element>
Table<Element> table(const std::byte* data, int64_t stride, const std::byte* next) {
  return {reinterpret_cast<const Element*>(data), stride / static_cast<int64_t>(sizeof(Element)),
          reinterpret_cast<const Element*>(next)};
}

// Other rows as f32, whole lanes.
Table<float> decoded(const CachedHead& head, const std::byte* rows, int64_t head_dim, int64_t positions,
                     float* to) noexcept {
  const int64_t width = padded_head(head_dim) + head.codec->block - 1;
  for (int64_t p = 0; p < positions; ++p) {
    head.codec->decode(rows + p * head.stride, to + p * width, head_dim);
    std::fill(to + p * width + head_dim, to + (p + 1) * width, 0.0f);
  }
  return {to, width, to};
}

constexpr auto* join_parts = dispatched<join_body<64>, join_body<32>, join_body<16>>;

}  // namespace

int64_t attend_scratch_floats(const Codec& codec, int64_t heads, int64_t head_dim, int64_t positions) {
  const int64_t rows =
      reads_directly(codec, head_dim) ? heads * head_dim : positions * (padded_head(head_dim) + codec.block - 1);
  return heads * padded(positions) + rows;
}

void attend(const Attend& a, const CachedHead& head, int64_t positions, float* out, PartialSoftmax* partial,
            float* scratch) noexcept {
  float* const scores = scratch;
  float* const rows = scratch + a.heads * padded(positions);
  const bool direct = reads_directly(*head.codec, a.head_dim), bf16 = direct && head.codec == &kBf16;
  if (bf16) {
    take_apart(a.q, rows, a.heads * a.head_dim);
    all_scores<uint16_t>({rows, a.heads, a.head_dim, a.scale}, table<uint16_t>(head.keys, head.stride, head.values),
                         positions, scores);
  } else {
    all_scores<float>(a,
                      direct ? table<float>(head.keys, head.stride, head.values)
                             : decoded(head, head.keys, a.head_dim, positions, rows),
                      positions, scores);
  }
  for (int64_t h = 0; h < a.heads; ++h) {
    float* const s = scores + h * padded(positions);
    if (a.cap > 0 || a.bias)
      shape_scores(s, {.cap = a.cap, .bias = a.bias ? a.bias + h * a.bias_stride : nullptr}, positions);
    partial[h].largest = max(s, padded(positions));
    partial[h].sum = exp_sum(s, partial[h].largest, padded(positions));
  }
  if (bf16)
    mix<uint16_t>(a, scores, table<uint16_t>(head.values, head.stride, head.next), positions, out);
  else
    mix<float>(a, scores,
               direct ? table<float>(head.values, head.stride, head.next)
                      : decoded(head, head.values, a.head_dim, positions, rows),
               positions, out);
}

void join(const SoftmaxParts& parts, int64_t width, float* y) noexcept { join_parts(parts, width, y); }

}  // namespace thimble
