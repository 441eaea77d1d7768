// Encoded bytes and decoded values against ggml and bitsandbytes, for values made by a formula.
// tools/codec_goldens.py made goldens.inc and has the same generator.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "codecs/codec.h"
#include "codecs/importance.h"

namespace thimble {
namespace {

struct Golden {
  std::string_view codec;
  uint64_t encoded;  // FNV-1a of the bytes of values()
  uint64_t decoded;  // of the f32 values of random_blocks(), or of the encoded bytes where GGUF has no such format
  std::string_view first_bytes;
};

constexpr Golden kGoldens[] = {
#include "goldens.inc"
};

// With errors weighted by importance().
constexpr Golden kWeightedGoldens[] = {
#include "weighted_goldens.inc"
};

constexpr int64_t kCount = 1 << 14, kRow = 1024;

// A linear congruential generator: the same few lines in any language.
class Words {
 public:
  explicit Words(uint32_t seed) : state_(seed) {}
  uint32_t next() { return state_ = state_ * 1664525u + 1013904223u; }

 private:
  uint32_t state_;
};

std::vector<float> values() {
  Words words(1);
  std::vector<float> x(kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    const float uniform = static_cast<float>(static_cast<int32_t>(words.next() >> 8) - (1 << 23)) * 0x1p-23f;
    x[i] = uniform * uniform * uniform * std::ldexp(1.0f, static_cast<int>(i / 256 % 9) - 4);
    if (i / 32 % 5 == 3) x[i] = std::abs(x[i]);
  }
  return x;
}

std::vector<std::byte> random_blocks(const Codec& codec) {
  Words words(2);
  std::vector<std::byte> bytes(codec.bytes(kCount));
  for (std::byte& b : bytes) b = static_cast<std::byte>(words.next() >> 24);
  // The exponents of the f16 scales are kept finite.
  const bool two = codec.name == "q4_1" || codec.name == "q5_1" || codec.name == "q4_K" || codec.name == "q5_K";
  const int64_t first = codec.name == "q6_K" ? 208 : 0;
  for (size_t block = 0; block < bytes.size(); block += codec.block_bytes) {
    bytes[block + first + 1] &= std::byte{0xbf};
    if (two) bytes[block + 3] &= std::byte{0xbf};
  }
  return bytes;
}

uint64_t fnv(const void* data, size_t size) {
  uint64_t state = 0xcbf29ce484222325u;
  for (size_t i = 0; i < size; ++i) state = (state ^ static_cast<const uint8_t*>(data)[i]) * 0x100000001b3u;
  return state;
}

std::string hex(const std::vector<std::byte>& bytes, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += fmt::format("{:02x}", std::to_integer<int>(bytes[i]));
  return out;
}

TEST(CodecGolden, writes_the_bytes_others_write) {
  const std::vector<float> x = values();
  for (const Golden& golden : kGoldens) {
    SCOPED_TRACE(golden.codec);
    const Codec* codec = find_codec(golden.codec);
    ASSERT_NE(codec, nullptr);
    std::vector<std::byte> bytes(codec->bytes(kCount));
    codec->encode(x.data(), bytes.data(), kCount);
    EXPECT_EQ(hex(bytes, golden.first_bytes.size() / 2), golden.first_bytes);
    EXPECT_EQ(fnv(bytes.data(), bytes.size()), golden.encoded);
  }
}

std::vector<float> importance() {
  Words words(3);
  std::vector<float> squares(kRow);
  for (int64_t i = 0; i < kRow; ++i) {
    const float uniform = static_cast<float>(words.next() >> 8) * 0x1p-24f, square = uniform * uniform;
    squares[static_cast<size_t>(i)] = i % 37 == 5 ? 0 : square * square * 16;
  }
  return squares;
}

TEST(CodecGolden, weighs_errors_as_others_do) {
  const std::vector<float> x = values(), weights = importance();
  for (const Golden& golden : kWeightedGoldens) {
    SCOPED_TRACE(golden.codec);
    const Codec& codec = *find_codec(golden.codec);
    const WeightedEncoder encode = weighted_encoder(codec);
    ASSERT_NE(encode, nullptr);
    std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes(kCount)));
    for (int64_t row = 0; row < kCount / kRow; ++row)
      encode(x.data() + row * kRow, weights.data(), bytes.data() + row * codec.bytes(kRow), kRow);
    EXPECT_EQ(hex(bytes, golden.first_bytes.size() / 2), golden.first_bytes);
    EXPECT_EQ(fnv(bytes.data(), bytes.size()), golden.encoded);
  }
}

TEST(CodecGolden, reads_the_values_others_read) {
  const std::vector<float> x = values();
  for (const Golden& golden : kGoldens) {
    SCOPED_TRACE(golden.codec);
    const Codec* codec = find_codec(golden.codec);
    ASSERT_NE(codec, nullptr);
    std::vector<std::byte> bytes(codec->bytes(kCount));
    if (codec->gguf_type >= 0) {
      bytes = random_blocks(*codec);
    } else {
      codec->encode(x.data(), bytes.data(), kCount);
    }
    std::vector<float> to(kCount);
    codec->decode(bytes.data(), to.data(), kCount);
    EXPECT_EQ(fnv(to.data(), to.size() * sizeof(float)), golden.decoded);
  }
}

}  // namespace
}  // namespace thimble
