// Fast decoders against the element-wise reference, on random bytes, at every instruction set of this machine.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "core/half.h"
#include "core/random.h"
#include "reference.h"

namespace thimble {
namespace {

std::vector<std::byte> random_bytes(int64_t count, std::string_view stream) {
  const Random random(3, stream);
  std::vector<std::byte> bytes(count);
  for (int64_t i = 0; i < count; ++i) bytes[i] = static_cast<std::byte>(random.bits(i));
  return bytes;
}

// The same bits, or both NaN: which operand's NaN a sum keeps is the compiler's choice.
testing::AssertionResult same(float a, float b) {
  if (std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b)))
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << a << " is not " << b;
}

// Runs `body` at each level the machine has.
template <class Body>
void at_every_level(Body body) {
  const Isa before = active_isa.level;
  for (const IsaLevel& level : isa_levels()) {
    if (!(this_cpu_levels() & isa_bit(level.isa))) continue;
    SCOPED_TRACE(level.name);
    use_isa(level.isa);
    body();
  }
  use_isa(before);
}

TEST(Decode, agrees_with_the_reference_bit_for_bit) {
  at_every_level([] {
    for (const Codec* codec : codecs()) {
      if (!has_reference(codec->name)) continue;
      SCOPED_TRACE(codec->name);
      for (const int64_t blocks : {1, 2, 3, 7, 33}) {
        for (const int64_t offset : {0, 1, 2, 3}) {
          const int64_t count = blocks * codec->block;
          const auto bytes = random_bytes(offset + codec->bytes(count), codec->name);
          std::vector<float> to(count + 1, 42.0f);
          codec->decode(bytes.data() + offset, to.data(), count);
          for (int64_t i = 0; i < count; ++i)
            ASSERT_TRUE(same(to[i], reference_element(*codec, bytes.data() + offset, i))) << "element " << i;
          ASSERT_EQ(to[count], 42.0f) << "wrote past the end";
        }
      }
    }
  });
}

TEST(Decode, every_level_encodes_the_same_bytes) {
  const Random random(5, "levels");
  std::vector<float> from(4 * 256);
  for (size_t i = 0; i < from.size(); ++i) from[i] = random.normal(i);
  for (const Codec* codec : codecs()) {
    SCOPED_TRACE(codec->name);
    std::vector<std::byte> first;
    at_every_level([&] {
      std::vector<std::byte> bytes(codec->bytes(from.size()));
      codec->encode(from.data(), bytes.data(), from.size());
      if (first.empty()) first = bytes;
      EXPECT_EQ(bytes, first);
    });
  }
}

// Zeros, infinities, NaNs of both kinds, subnormals, ties, and the edges of the half formats.
std::vector<float> awkward_floats() {
  std::vector<float> values;
  for (uint32_t high = 0; high < 0x10000; ++high) {
    for (const uint32_t low : {0x0000u, 0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u, 0xf000u, 0xffffu})
      values.push_back(std::bit_cast<float>(high << 16 | low));
  }
  return values;
}

TEST(Decode, half_formats_convert_every_number) {
  std::vector<uint16_t> all(0x10000);
  for (uint32_t i = 0; i < 0x10000; ++i) all[i] = static_cast<uint16_t>(i);
  const std::vector<float> from = awkward_floats();
  at_every_level([&] {
    std::vector<float> to(all.size());
    kF16.decode(reinterpret_cast<const std::byte*>(all.data()), to.data(), to.size());
    for (uint32_t i = 0; i < 0x10000; ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(to[i]), std::bit_cast<uint32_t>(f16_to_f32(all[i]))) << i;
    std::vector<uint16_t> f16(from.size()), bf16(from.size());
    kF16.encode(from.data(), reinterpret_cast<std::byte*>(f16.data()), from.size());
    kBf16.encode(from.data(), reinterpret_cast<std::byte*>(bf16.data()), from.size());
    for (size_t i = 0; i < from.size(); ++i) {
      ASSERT_EQ(f16[i], f32_to_f16(from[i])) << from[i];
      ASSERT_EQ(bf16[i], f32_to_bf16(from[i])) << from[i];
    }
  });
}

TEST(Decode, scales_of_blocks_convert_as_the_half_codec_does) {
  at_every_level([] {
    for (uint32_t i = 0; i < 0x10000; ++i) {
      const uint16_t bits = static_cast<uint16_t>(i);
      std::byte block[34] = {};
      std::memcpy(block, &bits, 2);
      block[2] = std::byte{1};
      float to[32];
      kQ8_0.decode(block, to, 32);
      ASSERT_TRUE(same(to[0], f16_to_f32(bits))) << i;
    }
  });
}

}  // namespace
}  // namespace thimble
