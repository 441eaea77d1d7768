#include "codecs/pattern.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/isa.h"
#include "core/random.h"

namespace thimble {
namespace {

std::vector<const Pattern*> patterns() {
  std::vector<const Pattern*> out;
  for (const Codec* codec : codecs())
    if (const Pattern* const pattern = pattern_of(*codec)) out.push_back(pattern);
  return out;
}

// Two of every four are not zero, in every one of the six ways, and some groups have fewer.
std::vector<float> sparse(int64_t count) {
  constexpr uint32_t kMasks[] = {0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100, 0b0001, 0b1000, 0};
  const Random random(5, "pattern");
  std::vector<float> out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    if (kMasks[i / 4 * 7 % 9] >> i % 4 & 1) out[static_cast<size_t>(i)] = random.normal(static_cast<uint64_t>(i));
  return out;
}

std::vector<std::byte> encoded(const Codec& codec, const std::vector<float>& from) {
  const auto count = static_cast<int64_t>(from.size());
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes(count)));
  codec.encode(from.data(), bytes.data(), count);
  return bytes;
}

TEST(Patterns, take_nine_sixteenths_and_lose_nothing) {
  ASSERT_EQ(patterns().size(), 2u);
  EXPECT_EQ(pattern_of(kBf16), nullptr);
  for (const Pattern* pattern : patterns()) {
    SCOPED_TRACE(pattern->codec->name);
    EXPECT_EQ(pattern->codec->bytes(576) * 16, pattern->dense->bytes(576) * 9);
    for (const int64_t count : {4, 20, 32, 36, 64, 100, 256, 260, 576, 1000}) {
      const std::vector<float> from = sparse(count);
      const std::vector<std::byte> dense = encoded(*pattern->dense, from), packed = encoded(*pattern->codec, from);
      std::vector<std::byte> unpacked(dense.size() + 1, std::byte{0x5a});
      pattern->unpack(packed.data(), unpacked.data(), count);
      EXPECT_EQ(unpacked.back(), std::byte{0x5a});
      unpacked.pop_back();
      EXPECT_EQ(unpacked, dense) << count;
      std::vector<float> expected(from.size()), found(from.size());
      pattern->dense->decode(dense.data(), expected.data(), count);
      pattern->codec->decode(packed.data(), found.data(), count);
      EXPECT_EQ(found, expected) << count;
    }
  }
}

TEST(Patterns, every_group_of_the_mask_has_two_bits) {
  for (const Pattern* pattern : patterns())
    for (const std::vector<float>& from :
         {sparse(320), std::vector<float>(320), std::vector<float>(320, 1.0f), sparse(37)}) {
      const std::vector<std::byte> bytes = encoded(*pattern->codec, from);
      for (size_t block = 0; block < bytes.size(); block += in_2_4::kBytes) {
        uint32_t mask;
        std::memcpy(&mask, bytes.data() + block, 4);
        for (int group = 0; group < 8; ++group) EXPECT_EQ(std::popcount(mask >> 4 * group & 15), 2);
      }
    }
}

TEST(Patterns, the_two_largest_stay) {
  const std::vector<float> from = {1, -4, 2, 3, 0.5f, 0.5f, 0.5f, 0.5f, 0, 0, 0, 7};
  const std::vector<float> expected = {0, -4, 0, 3, 0, 0, 0.5f, 0.5f, 0, 0, 0, 7};
  for (const Pattern* pattern : patterns()) {
    std::vector<float> found(from.size());
    pattern->codec->decode(encoded(*pattern->codec, from).data(), found.data(), 12);
    EXPECT_EQ(found, expected);
  }
}

// Damaged masks read within their block, and every instruction set the same.
TEST(Patterns, any_bytes_decode_alike_on_every_level) {
  const Random random(9, "bytes");
  std::vector<std::byte> bytes(static_cast<size_t>(64 * in_2_4::kBytes));
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(random.bits(i));
  constexpr int64_t kCount = 64 * in_2_4::kBlock;
  std::vector<uint16_t> expected;  // one bit after another
  for (int64_t i = 0, in_byte = 0; i < kCount; ++i) {
    const std::byte* const block = bytes.data() + i / in_2_4::kBlock * in_2_4::kBytes;
    const int64_t place = i % in_2_4::kBlock;
    if (place % 8 == 0) in_byte = 0;
    uint16_t value = 0;
    if ((std::to_integer<uint32_t>(block[place / 8]) >> place % 8 & 1) != 0 && in_byte++ < 4)
      std::memcpy(&value, block + in_2_4::kMaskBytes + 8 * (place / 8) + 2 * (in_byte - 1), 2);
    expected.push_back(value);
  }
  const Isa before = active_isa.level;
  for (const IsaLevel& level : isa_levels()) {
    if (!(this_cpu_levels() & isa_bit(level.isa))) continue;
    use_isa(level.isa);
    std::vector<uint16_t> found(expected.size());
    in_2_4::unpack(bytes.data(), reinterpret_cast<std::byte*>(found.data()), kCount);
    EXPECT_EQ(found, expected) << level.name;
  }
  use_isa(before);
}

}  // namespace
}  // namespace thimble
