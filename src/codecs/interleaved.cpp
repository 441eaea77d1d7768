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

void interleave_rows(const Codec& interleaved, const std::byte* rows, int64_t columns, std::byte* group) noexcept {
  const int64_t stride = interleaved.bytes(columns);
  for (int64_t first = 0; first < columns; first += kInterleavedPiece) {
    const int64_t begin = interleaved.bytes(first);
    const int64_t bytes = interleaved.bytes(std::min(kInterleavedPiece, columns - first));
    std::byte* const piece = group + kInterleavedRows * begin;
    for (int64_t row = 0; row < kInterleavedRows; ++row) {
      const std::byte* const from = rows + row * stride + begin;
      each_word(row, bytes, [&](int64_t in_row, int64_t in_group, size_t size) {
        std::memcpy(piece + in_group, from + in_row, size);
      });
    }
  }
}

void decode_interleaved(const Codec& interleaved, const std::byte* group, int64_t columns, int64_t row, int64_t first,
                        int64_t count, float* to) noexcept {
  alignas(8) std::byte plain[kMostPieceBytes];
  for (int64_t end = first + count; first < end;) {
    const int64_t begin = first / kInterleavedPiece * kInterleavedPiece;
    const int64_t last = std::min(begin + kInterleavedPiece, columns), stop = std::min(end, last);
    const std::byte* const piece = group + kInterleavedRows * interleaved.bytes(begin);
    each_word(row, interleaved.bytes(last - begin), [&](int64_t in_row, int64_t in_group, size_t size) {
      std::memcpy(plain + in_row, piece + in_group, size);
    });
    interleaved.rows_of->decode(plain + interleaved.bytes(first - begin), to, stop - first);
    to += stop - first;
    first = stop;
  }
}

}  // namespace thimble
