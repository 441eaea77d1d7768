#include "codecs/importance.h"

#include <array>
#include <utility>

#include "codecs/block32.h"
#include "codecs/k_fit.h"
#include "codecs/level_grid.h"

namespace thimble {
namespace {

template <int kBits, bool kMinimum>
void encode_blocks(const float* row, const float* importance, std::byte* to, int64_t count) noexcept {
  using Block = Block32<kBits, kMinimum>;
  constexpr int kTop = Block::kCodes - 1;
  constexpr GroupSearch kSearch = {.top = kTop, .first = -0.9f, .delta = 0.05f, .tries = 36};
  static_assert(Block::kBlock == kGroup);
  const LevelGrid& grid = *level_grid(kBits == 4 ? (kMinimum ? kQ4_1 : kQ4_0) : (kMinimum ? kQ5_1 : kQ5_0));
  float squares = 0;
  for (int64_t i = 0; i < count; ++i) squares += row[i] * row[i];
  const float variance = squares / static_cast<float>(count);
  for (int64_t at = 0; at < count; at += kGroup, to += Block::kBytes) {
    std::array<float, kGroup> weights;
    std::array<uint8_t, kGroup> codes;
    weigh_by_importance(row + at, importance + at, variance, kGroup, weights.data());
    Levels levels{.codes = Block::kCodes};
    if constexpr (kMinimum) {
      const GroupFit fit = fit_group(kSearch, row + at, weights.data(), codes.data());
      levels.step = fit.scale, levels.first = -fit.lowering;
    } else {
      levels.step = fit_signed(row + at, weights.data(), kGroup, Block::kZero, codes.data());
    }
    grid.pack(levels, codes.data(), to);
  }
}

}  // namespace

WeightedEncoder weighted_encoder(const Codec& codec) {
  constexpr std::array<std::pair<const Codec*, WeightedEncoder>, 7> kTable = {{{&kQ4_0, encode_blocks<4, false>},
                                                                               {&kQ4_1, encode_blocks<4, true>},
                                                                               {&kQ5_0, encode_blocks<5, false>},
                                                                               {&kQ5_1, encode_blocks<5, true>},
                                                                               {&kQ4K, encode_weighted_q4_K},
                                                                               {&kQ5K, encode_weighted_q5_K},
                                                                               {&kQ6K, encode_weighted_q6_K}}};
  for (const auto& [of, encoder] : kTable)
    if (of == &codec) return encoder;
  return nullptr;
}

}  // namespace thimble
