#include "codecs/interleaved.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace thimble {
namespace {

constexpr int64_t kWord = 4, kMostPieceBytes = kInterleavedPiece / 32 * 34;  // of q8_0

struct Home {
  const Codec* rows;
  std::string_view name;
};
constexpr Home kHomes[] = {{&kQ8_0, "q8_0x16"}, {&kQ4_0, "q4_0x16"}, {&kQ4_1, "q4_1x16"}, {&kQ5_0, "q5_0x16"},
                           {&kQ5_1, "q5_1x16"}, {&kQ4K, "q4_Kx16"},  {&kQ5K, "q5_Kx16"},  {&kQ6K, "q6_Kx16"}};

// A block of q6_K (q6_K.cpp) with its bits where a word's four codes take fewest shifts:
//
//   | s[16] | six words for each 32 elements | d |   byte 4 w + i of the six: code of element 4 w + i, then two bits
//                                                    more: 2 (w % 3) and the next of element 24 + 4 (w / 3) + i
constexpr int64_t kQ6High = 128, kQ6Scales = 192, kQ6D = 208, kQ6Words = 16;  // offsets
using Q6Codes = uint8_t[kInterleavedPiece];

// see(element, its byte, the element whose two bits that has too, where they begin).
template <class See>
void each_q6_byte(See see) noexcept {
  for (int block = 0; block < 8; ++block)
    for (int w = 0; w < 6; ++w)
      for (int i = 0; i < 4; ++i)
        see(32 * block + 4 * w + i, kQ6Words + 24 * block + 4 * w + i, 32 * block + 24 + w / 3 * 4 + i, 2 * (w % 3));
}
// see(element, byte and shift of its low bits, of its high ones) in the stored order.
template <class See>
void each_q6_code(See see) noexcept {
  for (int half = 0; half < 2; ++half)
    for (int k = 0; k < 4; ++k)
      for (int i = 0; i < 32; ++i)
        see(128 * half + 32 * k + i, 64 * half + k % 2 * 32 + i, k / 2 * 4, kQ6High + 32 * half + i, 2 * k);
}

void arrange_q6_K(const uint8_t* from, uint8_t* to) noexcept {
  Q6Codes codes;
  each_q6_code([&](int element, int64_t low, int low_shift, int64_t high, int high_shift) {
    codes[element] = static_cast<uint8_t>((from[low] >> low_shift & 15) | (from[high] >> high_shift & 3) << 4);
  });
  std::memcpy(to, from + kQ6Scales, kQ6Words);
  each_q6_byte([&](int element, int64_t byte, int other, int bit) {
    to[byte] = static_cast<uint8_t>(codes[element] | (codes[other] >> bit & 3) << 6);
  });
  std::memcpy(to + kQ6D, from + kQ6D, 2);
}

void restore_q6_K(const uint8_t* from, uint8_t* to) noexcept {
  Q6Codes codes = {};
  each_q6_byte([&](int element, int64_t byte, int other, int bit) {
    codes[element] = from[byte] & 63;
    codes[other] = static_cast<uint8_t>(codes[other] | from[byte] >> 6 << bit);
  });
  std::memset(to, 0, kQ6Scales);
  each_q6_code([&](int element, int64_t low, int low_shift, int64_t high, int high_shift) {
    to[low] = static_cast<uint8_t>(to[low] | (codes[element] & 15) << low_shift);
    to[high] = static_cast<uint8_t>(to[high] | codes[element] >> 4 << high_shift);
  });
  std::memcpy(to + kQ6Scales, from, kQ6Words);
  std::memcpy(to + kQ6D, from + kQ6D, 2);
}

template <auto change>
const std::byte* changed(const Codec& rows, const std::byte* piece, std::byte* memory) noexcept {
  if (&rows != &kQ6K) return piece;
  change(reinterpret_cast<const uint8_t*>(piece), reinterpret_cast<uint8_t*>(memory));
  return memory;
}

// at(in_row, in_group, bytes) for the words, and the half word, of one row's part of a piece.
template <class At>
void each_word(int64_t row, int64_t bytes, At at) noexcept {
  for (int64_t i = 0; i < bytes / kWord; ++i) at(i * kWord, (i * kInterleavedRows + row) * kWord, 4);
  const int64_t whole = bytes / kWord * kWord;
  if (whole < bytes) at(whole, whole * kInterleavedRows + row * 2, 2);
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

const std::byte* arranged(const Codec& rows, const std::byte* piece, std::byte* memory) noexcept {
  return changed<arrange_q6_K>(rows, piece, memory);
}

void interleave_rows(const Codec& interleaved, const std::byte* rows, int64_t columns, std::byte* group) noexcept {
  const int64_t stride = interleaved.bytes(columns);
  std::byte memory[kMostPieceBytes];
  for (int64_t first = 0; first < columns; first += kInterleavedPiece) {
    const int64_t begin = interleaved.bytes(first);
    const int64_t bytes = interleaved.bytes(std::min(kInterleavedPiece, columns - first));
    std::byte* const piece = group + kInterleavedRows * begin;
    for (int64_t row = 0; row < kInterleavedRows; ++row) {
      const std::byte* const from = arranged(*interleaved.rows_of, rows + row * stride + begin, memory);
      each_word(row, bytes, [&](int64_t in_row, int64_t in_group, size_t size) {
        std::memcpy(piece + in_group, from + in_row, size);
      });
    }
  }
}

void decode_interleaved(const Codec& interleaved, const std::byte* group, int64_t columns, int64_t row, int64_t first,
                        int64_t count, float* to) noexcept {
  std::byte gathered[kMostPieceBytes], memory[kMostPieceBytes];
  for (int64_t end = first + count; first < end;) {
    const int64_t begin = first / kInterleavedPiece * kInterleavedPiece;
    const int64_t last = std::min(begin + kInterleavedPiece, columns), stop = std::min(end, last);
    const std::byte* const piece = group + kInterleavedRows * interleaved.bytes(begin);
    each_word(row, interleaved.bytes(last - begin), [&](int64_t in_row, int64_t in_group, size_t size) {
      std::memcpy(gathered + in_row, piece + in_group, size);
    });
    const std::byte* const plain = changed<restore_q6_K>(*interleaved.rows_of, gathered, memory);
    interleaved.rows_of->decode(plain + interleaved.bytes(first - begin), to, stop - first);
    to += stop - first;
    first = stop;
  }
}

}  // namespace thimble
