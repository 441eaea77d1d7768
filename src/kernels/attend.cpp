#include "kernels/attend.h"

#include <algorithm>

#include "codecs/dispatch.h"
#include "kernels/rows.h"
#include "kernels/vector.h"

namespace thimble {
namespace {

constexpr int64_t kLanes = 16;
constexpr int kHeads = 4;  // whose sums are in registers together

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between functions that are always inlined
using Lanes = float __attribute__((vector_size(64), aligned(4), may_alias));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));
using Index = int __attribute__((vector_size(64)));

// Keys or values as the loops read them: f32 or bf16, `stride` elements apart.
template <class Element>
struct Table {
  const Element* data;
  int64_t stride;
};

THIMBLE_BODY Lanes load(const float* at) noexcept { return *reinterpret_cast<const Lanes*>(at); }
THIMBLE_BODY Lanes load(const uint16_t* at) noexcept {
  const Words words = __builtin_convertvector(*reinterpret_cast<const Halves*>(at), Words) << 16;
  return reinterpret_cast<const Lanes&>(words);
}

// Lanes whose number has not the bit `width`: sums of a's lanes l and l + width; the others: b's.
template <int width>
THIMBLE_BODY Lanes join(Lanes a, Lanes b) noexcept {
  Index same, other;
#pragma GCC unroll 16
  for (int l = 0; l < 16; ++l) {
    const int from = l & width ? 16 : 0;
    same[l] = from + l;
    other[l] = from + (l ^ width);
  }
  return __builtin_shuffle(a, b, same) + __builtin_shuffle(a, b, other);
}

// Lane i: the sum over the lanes of sums[i], in the order of dot() in rows.h.
THIMBLE_BODY Lanes fold(Lanes* sums) noexcept {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) sums[i] = join<8>(sums[i], sums[i + 8]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) sums[i] = join<4>(sums[i], sums[i + 4]);
  return join<1>(join<2>(sums[0], sums[2]), join<2>(sums[1], sums[3]));
}

// scores[p] = scale * dot(q, keys[p]) for 16 positions; `count` of them are there.
template <class Element>
THIMBLE_BODY void score16(const float* q, int64_t width, float scale, const Table<Element>& keys, int64_t count,
                          float* scores) noexcept {
  Lanes sums[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    const Element* const key = keys.data + std::min<int64_t>(i, count - 1) * keys.stride;
    Lanes sum = {};
    for (int64_t x = 0; x < width; x += kLanes) sum += load(q + x) * load(key + x);
    sums[i] = sum;
  }
  const Lanes folded = fold(sums) * scale;
  for (int64_t i = 0; i < count; ++i) scores[i] = folded[i];
}

template <class Element>
THIMBLE_BODY void scores_body(const Attend& a, const Table<Element>& keys, int64_t positions, float* scores) noexcept {
  const int64_t width = padded_head(a.head_dim);
  for (int64_t p = 0; p < positions; p += 16)
    for (int64_t h = 0; h < a.heads; ++h)
      score16(a.q + h * width, width, a.scale, Table<Element>{keys.data + p * keys.stride, keys.stride},
              std::min<int64_t>(16, positions - p), scores + h * positions + p);
}

// out[h][x .. x + 16) = sum over p of weights[h][p] * values[p], heads [0, H).
template <int H, class Element>
THIMBLE_BODY void mix16(const float* weights, const Table<Element>& values, int64_t positions, float* out,
                        int64_t width) noexcept {
  Lanes sums[H] = {};
  for (int64_t p = 0; p < positions; ++p) {
    const Lanes value = load(values.data + p * values.stride);
#pragma GCC unroll 4
    for (int h = 0; h < H; ++h) sums[h] += weights[h * positions + p] * value;
  }
#pragma GCC unroll 4
  for (int h = 0; h < H; ++h) *reinterpret_cast<Lanes*>(out + h * width) = sums[h];
}

template <class Element>
THIMBLE_BODY void mix_body(const Attend& a, const float* weights, const Table<Element>& values, int64_t positions,
                           float* out) noexcept {
  const int64_t width = padded_head(a.head_dim);
  for (int64_t x = 0; x < width; x += kLanes) {
    const Table<Element> column{values.data + x, values.stride};
    for (int64_t h = 0; h < a.heads; h += kHeads) {
      const float* const w = weights + h * positions;
      float* const to = out + h * width + x;
      switch (std::min<int64_t>(kHeads, a.heads - h)) {
        case 4:
          mix16<4>(w, column, positions, to, width);
          break;
        case 3:
          mix16<3>(w, column, positions, to, width);
          break;
        case 2:
          mix16<2>(w, column, positions, to, width);
          break;
        default:
          mix16<1>(w, column, positions, to, width);
      }
    }
  }
}

template <class Element>
constexpr auto* all_scores = dispatched<scores_body<Element>>;
template <class Element>
constexpr auto* mix = dispatched<mix_body<Element>>;

bool reads_directly(const Codec& codec, int64_t head_dim) {
  return (&codec == &kF32 || &codec == &kBf16) && head_dim % kLanes == 0;
}

template <class Element>
Table<Element> table(const std::byte* data, int64_t stride) {
  return {reinterpret_cast<const Element*>(data), stride / static_cast<int64_t>(sizeof(Element))};
}

// Other rows as f32, whole lanes.
Table<float> decoded(const CachedHead& head, const std::byte* rows, int64_t head_dim, int64_t positions,
                     float* to) noexcept {
  const int64_t width = padded_head(head_dim) + head.codec->block - 1;
  for (int64_t p = 0; p < positions; ++p) {
    head.codec->decode(rows + p * head.stride, to + p * width, head_dim);
    std::fill(to + p * width + head_dim, to + (p + 1) * width, 0.0f);
  }
  return {to, width};
}

}  // namespace

int64_t attend_scratch_floats(const Codec& codec, int64_t heads, int64_t head_dim, int64_t positions) {
  const int64_t rows = reads_directly(codec, head_dim) ? 0 : positions * (padded_head(head_dim) + codec.block - 1);
  return heads * positions + rows;
}

void attend(const Attend& a, const CachedHead& head, int64_t positions, float* out, PartialSoftmax* partial,
            float* scratch) noexcept {
  float* const scores = scratch;
  float* const rows = scratch + a.heads * positions;
  const bool direct = reads_directly(*head.codec, a.head_dim), bf16 = direct && head.codec == &kBf16;
  if (bf16)
    all_scores<uint16_t>(a, table<uint16_t>(head.keys, head.stride), positions, scores);
  else
    all_scores<float>(
        a, direct ? table<float>(head.keys, head.stride) : decoded(head, head.keys, a.head_dim, positions, rows),
        positions, scores);
  for (int64_t h = 0; h < a.heads; ++h) {
    float* const s = scores + h * positions;
    partial[h].largest = max(s, positions);
    partial[h].sum = exp_sum(s, partial[h].largest, positions);
  }
  if (bf16)
    mix<uint16_t>(a, scores, table<uint16_t>(head.values, head.stride), positions, out);
  else
    mix<float>(
        a, scores,
        direct ? table<float>(head.values, head.stride) : decoded(head, head.values, a.head_dim, positions, rows),
        positions, out);
}

}  // namespace thimble
