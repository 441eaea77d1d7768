// Packing of panels: a piece of 16 rows, one lane a row, as codes and scales.
#include <utility>

#include "kernels/dot/int8_formats.h"

namespace thimble {
namespace {

// Part I of the block at `source`: elements 32 at to 32 at + 31 of the panel.
template <class F, int I, int kGroup, bool kOffsets>
THIMBLE_BODY void pack_part(const std::byte* source, int64_t at, Int8Panel& panel) noexcept {
  Int8Block block;
  F::template read<I>(source, block);
  const Lanes scale = half_to_float(block.scale);
#pragma GCC unroll 8
  for (int q = 0; q < 8; ++q) *reinterpret_cast<LaneWords*>(panel.codes[8 * at + q]) = block.quads[q];
#pragma GCC unroll 2
  for (int i = 0; i < 32 / kGroup; ++i)
    *reinterpret_cast<Lanes*>(panel.scales[32 / kGroup * at + i]) = F::scale(scale, block, i);
  if (kOffsets) *reinterpret_cast<Lanes*>(panel.offsets[at]) = F::offset(half_to_float(block.offset), block);
}

template <class F, int kGroup, bool kOffsets>
THIMBLE_BODY void panel_body(const std::byte* group, int64_t count, Int8Panel& panel) noexcept {
  const auto pack = [&]<int... I>(std::integer_sequence<int, I...>, int64_t b) __attribute__((always_inline)) {
    (pack_part<F, I, kGroup, kOffsets>(group + b * F::kBytes * kDotRows, F::kParts * b + I, panel), ...);
  };
  for (int64_t b = 0; b < count / 32 / F::kParts; ++b) pack(std::make_integer_sequence<int, F::kParts>{}, b);
}
template <class F, int kGroup, bool kOffsets>
constexpr auto* panel_of = dispatched<panel_body<F, kGroup, kOffsets>>;

// By Int8Kind.
constexpr PackInt8 kPack[] = {panel_of<Int8Q4<false>, 32, false>, panel_of<Int8Q4<true>, 32, true>,
                              panel_of<Int8Q5<false>, 32, false>, panel_of<Int8Q5<true>, 32, true>,
                              panel_of<Int8Q8_0, 32, false>,      panel_of<Int8Q45K<false>, 32, true>,
                              panel_of<Int8Q45K<true>, 32, true>, panel_of<Int8Q6_K, 16, false>};

}  // namespace

PackInt8 pack_int8(Int8Kind kind) noexcept { return kPack[static_cast<int>(kind)]; }

}  // namespace thimble
