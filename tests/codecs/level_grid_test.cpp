// A block put together code by code is the block that the codec writes.
#include "codecs/level_grid.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "core/random.h"

namespace thimble {
namespace {

TEST(LevelGrid, levels_are_those_of_the_encoder) {
  int grids = 0;
  for (const Codec* codec : codecs()) {
    const LevelGrid* const grid = level_grid(*codec);
    if (!grid) continue;
    ++grids;
    ASSERT_EQ(codec->block, 32);
    for (uint64_t seed = 0; seed < 50; ++seed) {
      std::array<float, 32> x, encoded, packed;
      std::array<uint8_t, 32> codes;
      std::array<std::byte, 64> bytes, own;
      for (size_t i = 0; i < 32; ++i) x[i] = Random(seed, 1, 0).normal(i);
      codec->encode(x.data(), bytes.data(), 32);
      codec->decode(bytes.data(), encoded.data(), 32);
      const Levels levels = grid->levels(x.data());
      for (size_t i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(levels.nearest(x[i]));
      grid->pack(levels, codes.data(), own.data());
      codec->decode(own.data(), packed.data(), 32);
      const int64_t scales = codec->block_bytes - 16 - (levels.codes == 32 ? 4 : 0);
      EXPECT_TRUE(std::equal(bytes.begin(), bytes.begin() + scales, own.begin())) << codec->name;
      for (size_t i = 0; i < 32; ++i) {
        EXPECT_NEAR(levels.value(codes[i]), packed[i], 1e-6f) << codec->name;
        EXPECT_LE(std::abs(packed[i] - x[i]), std::abs(encoded[i] - x[i]) + 1e-6f) << codec->name;
      }
    }
  }
  EXPECT_EQ(grids, 4);
}

TEST(LevelGrid, constant_blocks_and_what_is_not_finite) {
  for (const Codec* codec : {&kQ4_0, &kQ4_1, &kQ5_0, &kQ5_1}) {
    std::array<float, 32> zeros{};
    const Levels levels = level_grid(*codec)->levels(zeros.data());
    EXPECT_EQ(levels.value(levels.nearest(0.0f)), 0.0f);
    EXPECT_EQ(levels.nearest(NAN), 0);
    EXPECT_EQ(levels.nearest(INFINITY), 0);
  }
  EXPECT_EQ(level_grid(kNf4), nullptr);
}

}  // namespace
}  // namespace thimble
