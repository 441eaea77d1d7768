// Packing of panels: the rows' bytes as columns of words first, one lane a row, then each format takes its codes and
// scales from whole vectors of words. Layouts are drawn in the codecs' files.
#include <algorithm>
#include <cstring>

#include "kernels/cpu.h"
#include "kernels/dot/int8_panel.h"
#include "kernels/lanes.h"

namespace thimble {
namespace {

// Bytes of a piece of q8_0, the longest, and what reading two words at once may touch.
constexpr int64_t kMostWords = kDotPiece / 32 * 34 / 4 + 1;
struct Words {
  alignas(64) uint32_t of[kMostWords][kDotRows];
};

void words_of_rows(const Int8Source& source, int64_t bytes, uint32_t (*words)[kDotRows]) noexcept {
  for (int64_t row = 0; row < kDotRows; ++row) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(source.next + row * bytes + at);
    for (int64_t i = 0; i < bytes / 4; ++i) std::memcpy(&words[i][row], source.data + row * source.stride + 4 * i, 4);
  }
}

THIMBLE_BODY LaneWords word(const Words& words, int64_t i) noexcept {
  return *reinterpret_cast<const LaneWords*>(words.of[i]);
}
// From the middle of word i to the middle of the next.
THIMBLE_BODY LaneWords between(const Words& words, int64_t i) noexcept {
  return word(words, i) >> 16 | word(words, i + 1) << 16;
}
// The word at 2 * i bytes.
template <bool kOdd>
THIMBLE_BODY LaneWords word_at(const Words& words, int64_t i) noexcept {
  return kOdd ? between(words, i / 2) : word(words, i / 2);
}

THIMBLE_BODY Lanes as_lanes(LaneWords words) noexcept { return reinterpret_cast<const Lanes&>(words); }
// f16 in the low half of each word, finite.
THIMBLE_BODY Lanes half_to_float(LaneWords halves) noexcept {
  const LaneWords magnitude = (halves & 0x7fffu) << 13, sign = (halves & 0x8000u) << 16;
  const Lanes scaled = as_lanes(magnitude) * 0x1p112f;
  return as_lanes(reinterpret_cast<const LaneWords&>(scaled) | sign);
}
THIMBLE_BODY Lanes number(LaneWords words) noexcept {
  using Numbers = int32_t __attribute__((vector_size(64)));
  return __builtin_convertvector(reinterpret_cast<const Numbers&>(words), Lanes);
}

THIMBLE_BODY LaneWords low_nibbles(LaneWords bytes) noexcept { return bytes & 0x0f0f0f0fu; }
THIMBLE_BODY LaneWords high_nibbles(LaneWords bytes) noexcept { return bytes >> 4 & 0x0f0f0f0fu; }

THIMBLE_BODY void put(Int8Panel& panel, int64_t quad, LaneWords codes) noexcept {
  *reinterpret_cast<LaneWords*>(panel.codes[quad]) = codes;
}
THIMBLE_BODY void put(float (*to)[kDotRows], int64_t group, Lanes values) noexcept {
  *reinterpret_cast<Lanes*>(to[group]) = values;
}

// Block b, whose bytes begin at half-word h of the words; kOdd: h is odd.
template <bool kOdd>
struct Block {
  const Words& words;
  int64_t h, b;
  Int8Panel& panel;
};

struct Q4_0 {
  static constexpr int64_t kBytes = 18;
  template <bool kOdd>
  THIMBLE_BODY static void put_block(const Block<kOdd>& at) noexcept {
    const LaneWords head = word(at.words, at.h / 2);
    put(at.panel.scales, at.b, half_to_float(kOdd ? head >> 16 : head));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const LaneWords bytes = word_at<!kOdd>(at.words, at.h + 1 + 2 * i);
      put(at.panel, 8 * at.b + i, low_nibbles(bytes));
      put(at.panel, 8 * at.b + 4 + i, high_nibbles(bytes));
    }
  }
};
struct Q4_1 {
  static constexpr int64_t kBytes = 20;
  template <bool kOdd>
  THIMBLE_BODY static void put_block(const Block<kOdd>& at) noexcept {
    const int64_t first = at.h / 2;
    const LaneWords head = word(at.words, first);
    put(at.panel.scales, at.b, half_to_float(head));
    put(at.panel.offsets, at.b, half_to_float(head >> 16));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const LaneWords bytes = word(at.words, first + 1 + i);
      put(at.panel, 8 * at.b + i, low_nibbles(bytes));
      put(at.panel, 8 * at.b + 4 + i, high_nibbles(bytes));
    }
  }
};
struct Q5_0 {
  static constexpr int64_t kBytes = 22;
  template <bool kOdd>
  THIMBLE_BODY static void put_block(const Block<kOdd>& at) noexcept {
    const LaneWords head = word(at.words, at.h / 2);
    put(at.panel.scales, at.b, half_to_float(kOdd ? head >> 16 : head));
    const LaneWords fifth = word_at<!kOdd>(at.words, at.h + 1);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      const LaneWords bytes = word_at<!kOdd>(at.words, at.h + 3 + 2 * (q % 4));
      // Bits 4 q .. 4 q + 3, a byte each.
      const LaneWords spread = (fifth >> 4 * q & 15) * 0x00204081u & 0x01010101u;
      put(at.panel, 8 * at.b + q, (q < 4 ? low_nibbles(bytes) : high_nibbles(bytes)) | spread << 4);
    }
  }
};
struct Q8_0 {
  static constexpr int64_t kBytes = 34;
  template <bool kOdd>
  THIMBLE_BODY static void put_block(const Block<kOdd>& at) noexcept {
    const LaneWords head = word(at.words, at.h / 2);
    put(at.panel.scales, at.b, half_to_float(kOdd ? head >> 16 : head));
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) put(at.panel, 8 * at.b + q, word_at<!kOdd>(at.words, at.h + 1 + 2 * q) ^ 0x80808080u);
  }
};

// Formats of blocks of 32.
template <class F>
THIMBLE_BODY void put_blocks(const Words& words, int64_t blocks, Int8Panel& panel) noexcept {
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t h = b * F::kBytes / 2;
    if (h % 2)
      F::put_block(Block<true>{words, h, b, panel});
    else
      F::put_block(Block<false>{words, h, b, panel});
  }
}

// q4_K and q5_K: eight groups of 32, six bits of scale and minimum each, packed as in k_fit.h.
template <bool kFifth>
THIMBLE_BODY void put_minimums(const Words& words, Int8Panel& panel) noexcept {
  const LaneWords w0 = word(words, 0), w1 = word(words, 1), w2 = word(words, 2), w3 = word(words, 3);
  const Lanes d = half_to_float(w0), dmin = half_to_float(w0 >> 16);
  const LaneWords scales[] = {w1 & 0x3f3f3f3fu, low_nibbles(w3) | (w1 >> 2 & 0x30303030u)};
  const LaneWords minimums[] = {w2 & 0x3f3f3f3fu, high_nibbles(w3) | (w2 >> 2 & 0x30303030u)};
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    put(panel.scales, g, d * number(scales[g / 4] >> 8 * (g % 4) & 255));
    put(panel.offsets, g, -(dmin * number(minimums[g / 4] >> 8 * (g % 4) & 255)));
  }
  constexpr int kLow = kFifth ? 12 : 4;
  for (int run = 0; run < 4; ++run)
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const LaneWords bytes = word(words, kLow + 8 * run + i);
      LaneWords low = low_nibbles(bytes), high = high_nibbles(bytes);
      if (kFifth) {
        const LaneWords fifth = word(words, 4 + i) >> 2 * run;
        low |= (fifth & 0x01010101u) << 4;
        high |= (fifth >> 1 & 0x01010101u) << 4;
      }
      put(panel, 16 * run + i, low);
      put(panel, 16 * run + 8 + i, high);
    }
}

// Bytes 208 and 209 are no whole word: d is read by itself.
THIMBLE_BODY void put_q6_K(const Words& words, const Int8Source& source, Int8Panel& panel) noexcept {
  alignas(64) float d[kDotRows];
  for (int64_t row = 0; row < kDotRows; ++row) d[row] = load_f16(source.data + row * source.stride + 208);
#pragma GCC unroll 16
  for (int g = 0; g < 16; ++g) {
    using Numbers = int32_t __attribute__((vector_size(64)));
    const LaneWords high = word(words, 48 + g / 4) << (24 - 8 * (g % 4));
    const Numbers scale = reinterpret_cast<const Numbers&>(high) >> 24;
    put(panel.scales, g, load_lanes(d) * __builtin_convertvector(scale, Lanes));
  }
  for (int half = 0; half < 2; ++half)
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
      const LaneWords a = word(words, 16 * half + i), b = word(words, 16 * half + 8 + i);
      const LaneWords high = word(words, 32 + 8 * half + i);
      put(panel, 32 * half + i, low_nibbles(a) | (high & 0x03030303u) << 4);
      put(panel, 32 * half + 8 + i, low_nibbles(b) | (high >> 2 & 0x03030303u) << 4);
      put(panel, 32 * half + 16 + i, high_nibbles(a) | (high >> 4 & 0x03030303u) << 4);
      put(panel, 32 * half + 24 + i, high_nibbles(b) | (high >> 6 & 0x03030303u) << 4);
    }
}

template <class F>
constexpr auto* all_blocks = dispatched<put_blocks<F>>;
constexpr auto* all_q4_K = dispatched<put_minimums<false>>;
constexpr auto* all_q5_K = dispatched<put_minimums<true>>;
constexpr auto* all_q6_K = dispatched<put_q6_K>;

void read_words(const Int8Source& source, int64_t bytes, Words& words) noexcept {
  (cpu().avx512 && bytes >= 16 ? words_of_rows_avx512 : words_of_rows)(source, bytes, words.of);
}

template <class F>
void pack_blocks(const Int8Source& source, Int8Panel& panel) noexcept {
  Words words;
  // Half a word at the end of an odd number of blocks is read by itself.
  const int64_t bytes = source.count / 32 * F::kBytes, whole = bytes / 4 * 4;
  read_words(source, whole, words);
  for (int64_t row = 0; row < kDotRows && whole < bytes; ++row)
    std::memcpy(&words.of[whole / 4][row], source.data + row * source.stride + whole, 2);
  all_blocks<F>(words, source.count / 32, panel);
}

}  // namespace

void pack_q4_0(const Int8Source& source, Int8Panel& panel) noexcept { pack_blocks<Q4_0>(source, panel); }
void pack_q4_1(const Int8Source& source, Int8Panel& panel) noexcept { pack_blocks<Q4_1>(source, panel); }
void pack_q5_0(const Int8Source& source, Int8Panel& panel) noexcept { pack_blocks<Q5_0>(source, panel); }
void pack_q8_0(const Int8Source& source, Int8Panel& panel) noexcept { pack_blocks<Q8_0>(source, panel); }
void pack_q4_K(const Int8Source& source, Int8Panel& panel) noexcept {
  Words words;
  read_words(source, 144, words);
  all_q4_K(words, panel);
}
void pack_q5_K(const Int8Source& source, Int8Panel& panel) noexcept {
  Words words;
  read_words(source, 176, words);
  all_q5_K(words, panel);
}
void pack_q6_K(const Int8Source& source, Int8Panel& panel) noexcept {
  Words words;
  read_words(source, 208, words);
  all_q6_K(words, source, panel);
}

}  // namespace thimble
