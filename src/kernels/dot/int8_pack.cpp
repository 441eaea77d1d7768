// Packing of panels: the rows' bytes as columns of words first, one lane a row, then each format's codes and scales.
#include <cstring>

#include "kernels/cpu.h"
#include "kernels/dot/int8_formats.h"

namespace thimble {
namespace {

void words_of_rows(const Int8Source& source, int64_t bytes, Int8Words& words) noexcept {
  for (int64_t row = 0; row < kDotRows; ++row) {
    for (int64_t at = 0; at < bytes; at += 64) prefetch_int8(source.next + row * bytes + at);
    for (int64_t i = 0; i < bytes / 4; ++i)
      std::memcpy(&words.of[i][row], source.data + row * source.stride + 4 * i, 4);
  }
}

template <class F, int kGroup, bool kOffsets>
THIMBLE_BODY void panel_body(const Int8Words& words, int64_t count, Int8Panel& panel) noexcept {
  for (int64_t b = 0; b < count / 32; ++b) {
    Int8Block block;
    if (b % 2)
      read_block<F, 1>(words, b, block);
    else
      read_block<F, 0>(words, b, block);
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) *reinterpret_cast<LaneWords*>(panel.codes[8 * b + q]) = block.quads[q];
#pragma GCC unroll 2
    for (int i = 0; i < 32 / kGroup; ++i)
      *reinterpret_cast<Lanes*>(panel.scales[32 / kGroup * b + i]) = block.scales[i];
    if (kOffsets) *reinterpret_cast<Lanes*>(panel.offsets[b]) = block.offset;
  }
}
template <class F, int kGroup, bool kOffsets>
constexpr auto* panel_of = dispatched<panel_body<F, kGroup, kOffsets>>;

}  // namespace

void read_int8_words(const Int8Format& format, const Int8Source& source, Int8Words& words) noexcept {
  // What is no whole word is read by itself: half a block's scale of q6_K, or the end of an odd number of blocks.
  const int64_t bytes = format.codec->bytes(source.count), whole = bytes / 4 * 4;
  if (cpu().avx512 && whole >= 16)
    words_of_rows_avx512(source, whole, words.of);
  else
    words_of_rows(source, whole, words);
  for (int64_t row = 0; row < kDotRows && whole < bytes; ++row) {
    const std::byte* const end = source.data + row * source.stride + whole;
    words.end[row] = 0;
    std::memcpy(&words.end[row], end, 2);
    std::memcpy(&words.of[whole / 4][row], end, 2);
  }
}

void pack_q4_0(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q4_0, 32, false>(w, n, p); }
void pack_q4_1(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q4_1, 32, true>(w, n, p); }
void pack_q5_0(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q5_0, 32, false>(w, n, p); }
void pack_q8_0(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q8_0, 32, false>(w, n, p); }
void pack_q4_K(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q45K<false>, 32, true>(w, n, p); }
void pack_q5_K(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q45K<true>, 32, true>(w, n, p); }
void pack_q6_K(const Int8Words& w, int64_t n, Int8Panel& p) noexcept { panel_of<Int8Q6_K, 16, false>(w, n, p); }

}  // namespace thimble
