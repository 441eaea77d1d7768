#include "codecs/interleaved.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "codecs/dispatch.h"

namespace thimble {
namespace {

constexpr int64_t kHalf = 2, kWord = 4;
constexpr int64_t kAtOnce = 256;  // elements decoded together: whole blocks

struct Home {
  const Codec* rows;
  std::string_view name;
  int64_t halves;  // f16 numbers that a block begins with; of q6_K, ends with
};
constexpr Home kHomes[] = {{&kQ8_0, "q8_0x16", 1}, {&kQ4_0, "q4_0x16", 1}, {&kQ4_1, "q4_1x16", 2},
                           {&kQ5_0, "q5_0x16", 1}, {&kQ5_1, "q5_1x16", 2}, {&kQ4K, "q4_Kx16", 2},
                           {&kQ5K, "q5_Kx16", 2},  {&kQ6K, "q6_Kx16", 1}};

const Home& home_of(const Codec& rows) {
  return *std::find_if(std::begin(kHomes), std::end(kHomes), [&](const Home& home) { return home.rows == &rows; });
}

// A block of q6_K (q6_K.cpp) in another order, in which a word's four codes take fewest shifts:
//
//   | d | s[16] | six words for each 32 elements |   byte 4 w + i of the six: code of element 4 w + i, then two bits
//                                                    more: 2 (w % 3) and the next of element 24 + 4 (w / 3) + i
constexpr int64_t kQ6High = 128, kQ6Scales = 192, kQ6D = 208, kQ6Bytes = 210;  // offsets in the block
constexpr int64_t kQ6ScalesHere = kHalf, kQ6Words = kHalf + 16;                // and in the other order

THIMBLE_BODY void arrange_q6_K_body(const std::byte* block, std::byte* arranged) noexcept {
  const auto* const from = reinterpret_cast<const uint8_t*>(block);
  auto* const to = reinterpret_cast<uint8_t*>(arranged);
  uint8_t codes[256];
  for (int quarter = 0; quarter < 8; ++quarter) {  // of a half
    const uint8_t* const low = from + quarter / 4 * 64 + quarter % 2 * 32;
    const uint8_t* const high = from + kQ6High + quarter / 4 * 32;
    const int low_shift = quarter % 4 / 2 * 4, high_shift = quarter % 4 * 2;
    for (int i = 0; i < 32; ++i)
      codes[32 * quarter + i] = static_cast<uint8_t>((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4);
  }
  for (int block = 0; block < 8; ++block)
    for (int half = 0; half < 2; ++half) {
      const uint8_t* const c = codes + 32 * block + 12 * half;
      const uint8_t* const last = codes + 32 * block + 24 + 4 * half;
      uint8_t* const three = to + kQ6Words + 24 * block + 12 * half;
#pragma GCC unroll 3
      for (int w = 0; w < 3; ++w)
        for (int i = 0; i < 4; ++i) three[4 * w + i] = static_cast<uint8_t>(c[4 * w + i] | (last[i] >> 2 * w & 3) << 6);
    }
  std::memcpy(to, from + kQ6D, kHalf);
  std::memcpy(to + kQ6ScalesHere, from + kQ6Scales, kQ6D - kQ6Scales);
}
constexpr auto* arrange_q6_K = dispatched<arrange_q6_K_body>;

THIMBLE_BODY void decode_q6_K_body(const std::byte* arranged, float* to) noexcept {
  const auto* const from = reinterpret_cast<const uint8_t*>(arranged);
  uint8_t codes[256];
  for (int block = 0; block < 8; ++block) {
    const uint8_t* const six = from + kQ6Words + 24 * block;
    for (int i = 0; i < 24; ++i) codes[32 * block + i] = six[i] & 63;
    for (int i = 0; i < 8; ++i) {
      const uint8_t* const three = six + i / 4 * 12 + i % 4;
      codes[32 * block + 24 + i] = static_cast<uint8_t>(three[0] >> 6 | three[4] >> 6 << 2 | three[8] >> 6 << 4);
    }
  }
  const float d = load_f16(arranged);
  for (int group = 0; group < 16; ++group) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(from[kQ6ScalesHere + group]));
    for (int i = 0; i < 16; ++i) to[16 * group + i] = scale * static_cast<float>(codes[16 * group + i] - 32);
  }
}
constexpr auto* decode_q6_K = dispatched<decode_q6_K_body>;

// at(in_row, in_group, bytes) for the halves and words of one row's block.
template <class At>
void each_part(const Home& home, int64_t row, At at) noexcept {
  const int64_t halves = home.halves * kHalf;
  for (int64_t i = 0; i < halves; i += kHalf) at(i, i * kInterleavedRows + row * kHalf, kHalf);
  for (int64_t i = halves; i < home.rows->block_bytes; i += kWord) at(i, i * kInterleavedRows + row * kWord, kWord);
}

}  // namespace

const Codec* interleaved(const Codec& codec) {
  static const auto homes = [] {
    std::array<Codec, std::size(kHomes)> out;
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = *kHomes[i].rows;
      out[i].name = kHomes[i].name;
      out[i].rows_of = kHomes[i].rows;
      out[i].decode = nullptr;
      out[i].encode = nullptr;
    }
    return out;
  }();
  for (const Codec& home : homes)
    if (home.rows_of == &codec) return &home;
  return nullptr;
}

void interleave_rows(const Codec& codec, const std::byte* rows, int64_t stride, int64_t columns,
                     std::byte* group) noexcept {
  const Home& home = home_of(codec);
  std::byte arranged[kQ6Bytes];
  const int64_t bytes = codec.bytes(columns);
  for (int64_t begin = 0; begin < bytes; begin += codec.block_bytes)
    for (int64_t row = 0; row < kInterleavedRows; ++row) {
      const std::byte* block = rows + row * stride + begin;
      if (&codec == &kQ6K) arrange_q6_K(block, arranged), block = arranged;
      each_part(home, row, [&](int64_t in_row, int64_t in_group, size_t size) {
        std::memcpy(group + begin * kInterleavedRows + in_group, block + in_row, size);
      });
    }
}

void decode_interleaved(const Codec& codec, const std::byte* group, int64_t row, int64_t first, int64_t count,
                        float* to) noexcept {
  const Home& home = home_of(codec);
  std::byte plain[kAtOnce / 32 * 34];  // of q8_0
  for (const int64_t end = first + count; first < end; first += kAtOnce, to += kAtOnce) {
    const int64_t elements = std::min(kAtOnce, end - first), begin = codec.bytes(first);
    for (int64_t at = 0; at < codec.bytes(elements); at += codec.block_bytes)
      each_part(home, row, [&](int64_t in_row, int64_t in_group, size_t size) {
        std::memcpy(plain + at + in_row, group + (begin + at) * kInterleavedRows + in_group, size);
      });
    if (&codec == &kQ6K)
      decode_q6_K(plain, to);
    else
      codec.decode(plain, to, elements);
  }
}

}  // namespace thimble
