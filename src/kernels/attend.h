// Queries of a few heads over keys and values that they share, a position after the other in memory: what decoding
// does with a cache.
//
// Numerics: a score is a sum over 16 lanes, as dot() of rows.h adds them, times the scale; of keys in bf16, a lane has
// two neighbours of every 32 elements. Scores meet values in the order of positions, in f32. Every instruction set
// gives the same bits.
#pragma once

#include <cstdint>

#include "codecs/codec.h"

namespace thimble {

// One key head of a cache: position p is at keys + p * stride. Memory brings the values while keys are multiplied, and
// while values are, what is read next: as many rows, as far apart.
struct CachedHead {
  const Codec* codec = &kF32;
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  const std::byte* next = nullptr;  // may be keys
  int64_t stride = 0;               // bytes
};

// softmax(scale q k) v over some of the positions, to be joined with the others': out = sum of exp(s - largest) v,
// sum = sum of exp(s - largest).
struct PartialSoftmax {
  float largest;
  float sum;
};

// Elements of a head's row in memory: whole lanes.
constexpr int64_t padded_head(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }

// f32 that attend() needs besides its results.
int64_t attend_scratch_floats(const Codec& codec, int64_t heads, int64_t head_dim, int64_t positions);

// q, out: [heads, padded_head], q with zeros behind head_dim; partial: [heads].
struct Attend {
  const float* q;
  int64_t heads, head_dim;
  float scale;
  // Scores are cap tanh(score / cap) where there is a cap, plus bias[head, position].
  float cap = 0;
  const float* bias = nullptr;  // [heads, bias_stride], from the first position on
  int64_t bias_stride = 0;
};
void attend(const Attend& attend, const CachedHead& head, int64_t positions, float* out, PartialSoftmax* partial,
            float* scratch) noexcept;

// `count` parts of one head's softmax, joined in order: y [width], whole lanes, of `out` and `partial`, whose parts are
// so many elements apart.
struct SoftmaxParts {
  const float* out;
  int64_t out_stride;
  const PartialSoftmax* partial;
  int64_t partial_stride;
  int64_t count;
};
void join(const SoftmaxParts& parts, int64_t width, float* y) noexcept;

}  // namespace thimble
