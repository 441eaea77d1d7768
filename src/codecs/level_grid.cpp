#include "codecs/level_grid.h"

#include <array>
#include <cmath>

#include "codecs/block32.h"

namespace thimble {
namespace {

template <int kBits, bool kMinimum>
struct Grid {
  using Block = Block32<kBits, kMinimum>;

  static Levels levels(const float* block) noexcept {
    const typename Block::Scale scale = Block::scale_of(block);
    std::array<std::byte, 4> stored;
    store_f16(scale.d, stored.data());
    store_f16(scale.m, stored.data() + 2);
    const float d = load_f16(stored.data());
    return {d, kMinimum ? load_f16(stored.data() + 2) : -d * Block::kZero, Block::kCodes};
  }

  static void pack(const Levels& levels, const uint8_t* codes, std::byte* to) noexcept {
    store_f16(levels.step, to);
    if constexpr (kMinimum) store_f16(levels.first, to + 2);
    uint32_t fifth = 0;
    for (int i = 0; i < Block::kHalf; ++i) {
      const uint8_t low = codes[i], high = codes[i + Block::kHalf];
      to[Block::kLow + i] = static_cast<std::byte>((low & 15) | (high & 15) << 4);
      fifth |= static_cast<uint32_t>(low >> 4) << i | static_cast<uint32_t>(high >> 4) << (i + Block::kHalf);
    }
    if constexpr (kBits == 5) std::memcpy(to + Block::kHigh, &fifth, 4);
  }

  static constexpr LevelGrid of(const Codec& codec) { return {&codec, levels, pack}; }
};

constexpr std::array kGrids = {Grid<4, false>::of(kQ4_0), Grid<4, true>::of(kQ4_1), Grid<5, false>::of(kQ5_0),
                               Grid<5, true>::of(kQ5_1)};

}  // namespace

int Levels::nearest(float x) const noexcept {
  if (step == 0 || !(std::abs(x) <= std::numeric_limits<float>::max())) return 0;
  const float code = std::floor((x - first) / step + 0.5f), top = static_cast<float>(codes - 1);
  return static_cast<int>(code < 0 ? 0 : code > top ? top : code);
}

const LevelGrid* level_grid(const Codec& codec) {
  for (const LevelGrid& grid : kGrids)
    if (grid.codec == &codec) return &grid;
  return nullptr;
}

}  // namespace thimble
