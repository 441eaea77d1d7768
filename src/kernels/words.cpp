#include "kernels/words.h"

#include <bit>

#include "kernels/lanes.h"
#include "kernels/round_bf16.h"

namespace thimble {
namespace {

THIMBLE_BODY uint32_t rounded(float value) noexcept { return round_bf16(value); }
THIMBLE_BODY uint32_t rounded(uint16_t value) noexcept { return value; }
THIMBLE_BODY uint32_t wide(float value) noexcept { return std::bit_cast<uint32_t>(value); }
THIMBLE_BODY uint32_t wide(uint16_t value) noexcept { return static_cast<uint32_t>(value) << 16; }

template <Word word, class Element>
THIMBLE_BODY uint32_t make(Element first, Element second) noexcept {
  if constexpr (word == Word::pair) return rounded(first) | rounded(second) << 16;
  if constexpr (word == Word::rounded) return rounded(first) << 16;
  return wide(first);
}

// The upper halves of what round_bf16() makes of 16 numbers; the lower halves are anything.
THIMBLE_BODY LaneWords round_lanes(Lanes x) noexcept {
  const LaneWords bits = reinterpret_cast<const LaneWords&>(x);
  const LaneWords nan = reinterpret_cast<LaneWords>((bits & 0x7fffffffu) > 0x7f800000u);
  return (round_finite(x) & ~nan) | ((bits | 0x400000u) & nan);
}

// Words `at` and the 15 that follow it of a row.
template <Word word>
THIMBLE_BODY LaneWords make_lanes(const float* row, int64_t at) noexcept {
  if constexpr (word == Word::pair) {
    const LanePair pair = take_apart(row + 2 * at);
    return round_lanes(pair.even) >> 16 | (round_lanes(pair.odd) & 0xffff0000u);
  }
  const Lanes lanes = load_lanes(row + at);
  return word == Word::rounded ? round_lanes(lanes) & 0xffff0000u : reinterpret_cast<const LaneWords&>(lanes);
}
template <Word word>
THIMBLE_BODY LaneWords make_lanes(const uint16_t* row, int64_t at) noexcept {
  using Pairs = uint32_t __attribute__((vector_size(64), aligned(2), may_alias));  // rows may have odd lengths
  if constexpr (word == Word::pair) return *reinterpret_cast<const Pairs*>(row + 2 * at);
  return __builtin_convertvector(*reinterpret_cast<const LaneHalves*>(row + at), LaneWords) << 16;
}

// `together` tiles from a row's first element on. Rows lie far apart, so they are fetched a few rows ahead.
template <Word word, int64_t width, int64_t together, class Element>
THIMBLE_BODY void cut(const Element* row, int64_t stride, int64_t words, uint32_t* to) noexcept {
  constexpr int64_t kRows = word == Word::pair ? 2 : 1, kAhead = 8, kLine = 64 / sizeof(Element);
  for (int64_t w = 0; w < words; ++w, row += kRows * stride, to += width) {
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t i = 0; i < together * width; i += kLine) __builtin_prefetch(row + (kAhead + r) * stride + i);
#pragma GCC unroll 8
    for (int64_t t = 0; t < together; ++t)
      for (int64_t i = 0; i < width; ++i)
        to[t * words * width + i] = make<word>(row[t * width + i], row[(kRows - 1) * stride + t * width + i]);
  }
}

// As many tiles together as make whole cache lines of a row.
template <Word word, int64_t width, class Element>
THIMBLE_BODY void cut(const Element* from, int64_t stride, const TileCut& c, uint32_t* to) noexcept {
  constexpr int64_t kTogether = width < 48 ? 64 / width : 1;
  int64_t t = 0;
  for (; t + kTogether <= c.tiles; t += kTogether)
    cut<word, width, kTogether>(from + t * width, stride, c.words, to + t * c.words * width);
  for (; t < c.tiles; ++t) cut<word, width, 1>(from + t * width, stride, c.words, to + t * c.words * width);
}

template <Word word, class Element>
THIMBLE_BODY void cut_as(const Element* from, int64_t stride, const TileCut& c, uint32_t* to) noexcept {
  switch (c.width) {
    case 4:
      return cut<word, 4>(from, stride, c, to);
    case 8:
      return cut<word, 8>(from, stride, c, to);
    case 12:
      return cut<word, 12>(from, stride, c, to);
    case 16:
      return cut<word, 16>(from, stride, c, to);
    case 24:
      return cut<word, 24>(from, stride, c, to);
    case 32:
      return cut<word, 32>(from, stride, c, to);
    case 48:
      return cut<word, 48>(from, stride, c, to);
  }
}

// One of the four steps of a transposition: rows r and r + width exchange half of their lanes.
template <int width>
THIMBLE_BODY void exchange(LaneWords* rows) noexcept {
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    if (r & width) continue;
    const LaneWords a = rows[r], b = rows[r | width];
    rows[r] = pick_lanes<kLanes, [](int l) { return l & width ? 16 + (l ^ width) : l; }>(a, b);
    rows[r | width] = pick_lanes<kLanes, [](int l) { return l & width ? 16 + l : l | width; }>(a, b);
  }
}

template <Word word, class Element>
THIMBLE_BODY void turn(const Element* from, int64_t stride, int64_t count, int64_t words, uint32_t* to,
                       int64_t to_stride) noexcept {
  constexpr int64_t kStep = word == Word::pair ? 2 : 1;
  int64_t w = 0;
  for (; count == 16 && w + kLanes <= words; w += kLanes) {
    LaneWords rows[16];
#pragma GCC unroll 16
    for (int64_t r = 0; r < 16; ++r) {
      __builtin_prefetch(from + r * stride + (w + 4 * kLanes) * kStep);
      rows[r] = make_lanes<word>(from + r * stride, w);
    }
    exchange<8>(rows), exchange<4>(rows), exchange<2>(rows), exchange<1>(rows);
#pragma GCC unroll 16
    for (int64_t i = 0; i < 16; ++i) *reinterpret_cast<LaneWords*>(to + (w + i) * to_stride) = rows[i];
  }
  for (; w < words; ++w)
    for (int64_t r = 0; r < count; ++r) {
      const Element* const at = from + r * stride + w * kStep;
      to[w * to_stride + r] = make<word>(at[0], at[kStep - 1]);
    }
}

// use.template operator()<word>(elements)
template <class Use>
THIMBLE_BODY void with(Word word, const WordRows& rows, const Use& use) noexcept {
  const auto each = [&](const auto* data) __attribute__((always_inline)) {
    if (word == Word::pair) use.template operator()<Word::pair>(data);
    if (word == Word::f32) use.template operator()<Word::f32>(data);
    if (word == Word::rounded) use.template operator()<Word::rounded>(data);
  };
  if (rows.codec == &kF32)
    each(reinterpret_cast<const float*>(rows.data));
  else
    each(reinterpret_cast<const uint16_t*>(rows.data));
}

THIMBLE_BODY void cut_tiles_body(Word word, const WordRows& from, const TileCut& cut, uint32_t* to) noexcept {
  with(
      word,
      from, [&]<Word as>(const auto* data) __attribute__((always_inline)) { cut_as<as>(data, from.stride, cut, to); });
}

THIMBLE_BODY void turn_rows_body(Word word, const WordRows& from, int64_t rows, int64_t words, uint32_t* to,
                                 int64_t to_stride) noexcept {
  with(
      word, from, [&]<Word as>(const auto* data) __attribute__((always_inline)) {
        turn<as>(data, from.stride, rows, words, to, to_stride);
      });
}

}  // namespace

void cut_tiles(Word word, const WordRows& from, const TileCut& cut, uint32_t* to) noexcept {
  dispatched<cut_tiles_body>(word, from, cut, to);
}

void turn_rows(Word word, const WordRows& from, int64_t rows, int64_t words, uint32_t* to, int64_t to_stride) noexcept {
  dispatched<turn_rows_body>(word, from, rows, words, to, to_stride);
}

}  // namespace thimble
