// Packing of panels: the rows' bytes as columns of words first, one lane a row, then each format's codes and scales.
#include <cstring>
#include <utility>

#include "kernels/dot/int8_formats.h"

namespace thimble {
namespace {

template <class F, int I, int kGroup, bool kOffsets>
THIMBLE_BODY void pack_block(const Int8Words& words, int64_t b, Int8Panel& panel) noexcept {
  Int8Block block;
  F::template read<I>(words, b * F::kBytes / 2, block);
#pragma GCC unroll 8
  for (int q = 0; q < 8; ++q) *reinterpret_cast<LaneWords*>(panel.codes[8 * b + q]) = block.quads[q];
#pragma GCC unroll 2
  for (int i = 0; i < 32 / kGroup; ++i) *reinterpret_cast<Lanes*>(panel.scales[32 / kGroup * b + i]) = block.scales[i];
  if (kOffsets) *reinterpret_cast<Lanes*>(panel.offsets[b]) = block.offset;
}

template <class F, int kGroup, bool kOffsets>
THIMBLE_BODY void panel_body(const Int8Words& words, int64_t count, Int8Panel& panel) noexcept {
  const auto pack = [&]<int... I>(std::integer_sequence<int, I...>, int64_t b) __attribute__((always_inline)) {
    ((b + I < count / 32 ? pack_block<F, I, kGroup, kOffsets>(words, b + I, panel) : void()), ...);
  };
  for (int64_t b = 0; b < count / 32; b += F::kCycle) pack(std::make_integer_sequence<int, F::kCycle>{}, b);
}
template <class F, int kGroup, bool kOffsets>
constexpr auto* panel_of = dispatched<panel_body<F, kGroup, kOffsets>>;

}  // namespace

Int8Words int8_words(const Int8Format& format, const Int8Source& source, Int8Columns& memory) noexcept {
  const int64_t bytes = format.codec->bytes(source.count), whole = bytes / 4;
  std::byte piece[4 * Int8Columns::kMost];
  for (int64_t row = 0; row < kDotRows; ++row) {
    const std::byte* const from = arranged(*format.codec, source.data + row * source.stride, piece);
    for (int64_t i = 0; i < whole; ++i) std::memcpy(&memory.of[i][row], from + 4 * i, 4);
    if (bytes % 4 == 0) continue;
    std::memcpy(&memory.end[row], from + 4 * whole, 2);
    memory.of[whole][row] = memory.end[row];
  }
  return {memory.of[0], memory.end};
}

Int8Words int8_words_of_piece(const Int8Format& format, const std::byte* piece, int64_t count,
                              Int8Columns& memory) noexcept {
  const int64_t bytes = format.codec->bytes(count), whole = bytes / 4;
  const Int8Words words{reinterpret_cast<const uint32_t*>(piece),
                        reinterpret_cast<const uint16_t*>(piece + 4 * whole * kDotRows)};
  if (bytes % 4 == 0 || count == kDotPiece) return words;
  // The word that is begun is read whole.
  std::memcpy(memory.of, words.of, static_cast<size_t>(whole) * sizeof *memory.of);
  for (int64_t row = 0; row < kDotRows; ++row) memory.of[whole][row] = memory.end[row] = words.end[row];
  return {memory.of[0], memory.end};
}

void pack_q4_0(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q4_0, 32, false>(w, n, p); }
void pack_q4_1(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q4_1, 32, true>(w, n, p); }
void pack_q5_0(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q5_0, 32, false>(w, n, p); }
void pack_q8_0(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q8_0, 32, false>(w, n, p); }
void pack_q4_K(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q45K<false>, 32, true>(w, n, p); }
void pack_q5_K(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q45K<true>, 32, true>(w, n, p); }
void pack_q6_K(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q6_K, 16, false>(w, n, p); }

}  // namespace thimble
