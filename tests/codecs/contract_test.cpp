// What every codec must do: a new row of the table is tested the moment it is listed.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "codecs/codec.h"
#include "core/random.h"

namespace thimble {
namespace {

constexpr int64_t kCount = 4 * 256;    // whole blocks of every codec
constexpr float kSmallest = 0x1p-25f;  // half the least f16: below it "normal range" ends

std::vector<float> normals(int64_t count, float scale, std::string_view stream) {
  const Random random(7, stream);
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = scale * random.normal(i);
  return values;
}

std::vector<std::byte> encoded(const Codec& codec, const std::vector<float>& from) {
  std::vector<std::byte> bytes(codec.bytes(from.size()));
  codec.encode(from.data(), bytes.data(), from.size());
  return bytes;
}

std::vector<float> decoded(const Codec& codec, const std::vector<std::byte>& bytes, int64_t count) {
  std::vector<float> values(count);
  codec.decode(bytes.data(), values.data(), count);
  return values;
}

void expect_within_stated_error(const Codec& codec, const std::vector<float>& from) {
  const int64_t count = from.size();
  const std::vector<float> to = decoded(codec, encoded(codec, from), count);
  for (int64_t start = 0; start < count; start += codec.block) {
    const int64_t end = std::min(count, start + codec.block);
    float largest = 0;
    for (int64_t i = start; i < end; ++i) largest = std::max(largest, std::abs(from[i]));
    for (int64_t i = start; i < end; ++i)
      ASSERT_LE(std::abs(from[i] - to[i]), codec.max_error * largest + kSmallest) << "element " << i << ", " << from[i];
  }
}

TEST(CodecContract, names_and_numbers_are_unique) {
  std::set<std::string_view> names;
  std::set<int> types;
  for (const Codec* codec : codecs()) {
    EXPECT_TRUE(names.insert(codec->name).second) << codec->name;
    if (codec->gguf_type >= 0) {
      EXPECT_TRUE(types.insert(codec->gguf_type).second) << codec->name;
    }
    EXPECT_FALSE(codec->description.empty()) << codec->name;
    EXPECT_EQ(find_codec(codec->name), codec);
    EXPECT_EQ(kCount % codec->block, 0) << codec->name;
  }
}

TEST(CodecContract, round_trip_stays_within_the_stated_error) {
  for (const Codec* codec : codecs()) {
    SCOPED_TRACE(codec->name);
    for (const float scale : {1.0f, 0.125f, 8.0f, 300.0f})
      expect_within_stated_error(*codec, normals(kCount, scale, codec->name));
  }
}

TEST(CodecContract, error_bound_holds_for_awkward_blocks) {
  const auto each = [](auto value) {
    std::vector<float> values(kCount);
    for (int64_t i = 0; i < kCount; ++i) values[i] = value(i);
    for (const Codec* codec : codecs()) {
      SCOPED_TRACE(codec->name);
      expect_within_stated_error(*codec, values);
    }
  };
  const std::vector<float> noise = normals(kCount, 1, "awkward");
  each([](int64_t) { return 0.0f; });
  each([](int64_t) { return 1.7f; });
  each([](int64_t) { return -1.7f; });
  each([&](int64_t i) { return -std::abs(noise[i]); });
  each([&](int64_t i) { return 5 + 0.01f * noise[i]; });               // far from zero
  each([](int64_t i) { return i % 256 == 77 ? -3.0f : 0.0f; });        // one outlier
  each([](int64_t i) { return i % 2 ? 1.0f : -1.0f; });                // both ends of the range
  each([&](int64_t i) { return i % 32 ? 0.02f * noise[i] : -6.0f; });  // an outlier a group
  each([](int64_t i) { return static_cast<float>(i % 256) - 100; });
}

TEST(CodecContract, zeros_stay_zeros) {
  for (const Codec* codec : codecs()) {
    for (const float value : decoded(*codec, encoded(*codec, std::vector<float>(kCount)), kCount))
      EXPECT_EQ(value, 0.0f) << codec->name;
  }
}

TEST(CodecContract, anything_may_be_encoded_and_no_byte_beyond_is_touched) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const Codec* codec : codecs()) {
    SCOPED_TRACE(codec->name);
    for (const float odd : {kInfinity, -kInfinity, kNan, 3e38f, -3e38f, 1e-45f, -1e-38f, 1e-6f}) {
      for (const int64_t every : {1, 7, 100}) {
        std::vector<float> from = normals(kCount, 1, "odd");
        for (int64_t i = 0; i < kCount; i += every) from[i] = odd;
        std::vector<std::byte> bytes(codec->bytes(kCount) + 2, std::byte{0x5a});
        codec->encode(from.data(), bytes.data() + 1, kCount);
        EXPECT_EQ(bytes.front(), std::byte{0x5a});
        EXPECT_EQ(bytes.back(), std::byte{0x5a});
        std::vector<float> to(kCount + 2, 42.0f);
        codec->decode(bytes.data() + 1, to.data() + 1, kCount);
        EXPECT_EQ(to.front(), 42.0f);
        EXPECT_EQ(to.back(), 42.0f);
      }
    }
  }
}

TEST(CodecContract, misaligned_buffers_change_nothing) {
  for (const Codec* codec : codecs()) {
    SCOPED_TRACE(codec->name);
    const std::vector<float> from = normals(kCount + 1, 1, "misaligned");
    const std::vector<std::byte> straight = encoded(*codec, {from.begin() + 1, from.end()});
    const std::vector<float> values = decoded(*codec, straight, kCount);
    for (size_t offset = 1; offset < 4; ++offset) {
      std::vector<std::byte> bytes(straight.size() + offset);
      codec->encode(from.data() + 1, bytes.data() + offset, kCount);
      EXPECT_TRUE(std::equal(straight.begin(), straight.end(), bytes.begin() + offset));
      std::vector<float> to(kCount + 1);
      codec->decode(bytes.data() + offset, to.data() + 1, kCount);
      EXPECT_TRUE(std::equal(values.begin(), values.end(), to.begin() + 1));
    }
  }
}

// GGUF's formats need whole blocks; the others fill the last one up with zeros.
TEST(CodecContract, last_block_may_be_partly_filled) {
  for (const Codec* codec : codecs()) {
    SCOPED_TRACE(codec->name);
    EXPECT_TRUE(codec->fits_rows(kCount));
    if (codec->gguf_type >= 0) continue;
    for (const int64_t count : {int64_t{1}, int64_t{3}, codec->block - 1, codec->block + 1, 2 * codec->block + 31}) {
      EXPECT_TRUE(codec->fits_rows(count));
      std::vector<float> from = normals(count, 1, "partial");
      expect_within_stated_error(*codec, from);
      const std::vector<std::byte> bytes = encoded(*codec, from);
      std::vector<float> to(count + 1, 42.0f);
      codec->decode(bytes.data(), to.data(), count);
      EXPECT_EQ(to[count], 42.0f);
      const int64_t filled = codec->part > 0 ? codec->part : codec->block;
      from.resize((count + filled - 1) / filled * filled);
      EXPECT_EQ(bytes, encoded(*codec, from));
    }
  }
}

// What was read from a format is written to it without loss. Not so where a search starts anew (the K formats), nor
// where the largest value may lie beyond the codes (int8_block has +1 but not -1) or the least decides the scale (fp8),
// or the scale is rounded by itself (fp8_group, nf4_double).
TEST(CodecContract, decoded_values_encode_to_themselves) {
  const std::set<std::string_view> lossy = {"q4_K", "q5_K", "q6_K", "int8_block", "fp8", "fp8_group", "nf4_double"};
  for (const Codec* codec : codecs()) {
    if (lossy.contains(codec->name)) continue;
    SCOPED_TRACE(codec->name);
    const std::vector<float> once = decoded(*codec, encoded(*codec, normals(kCount, 1, codec->name)), kCount);
    EXPECT_EQ(once, decoded(*codec, encoded(*codec, once), kCount));
  }
}

// Scales in 8 bits add a thousandth to nf4's error, and take a quarter of a bit a number less.
TEST(Nf4Double, is_as_near_as_nf4) {
  const std::vector<float> from = normals(64 * 1024, 1, "double");
  const auto error = [&](const Codec& codec) {
    const std::vector<float> to = decoded(codec, encoded(codec, from), static_cast<int64_t>(from.size()));
    double squares = 0;
    for (size_t i = 0; i < from.size(); ++i) squares += (from[i] - to[i]) * (from[i] - to[i]);
    return std::sqrt(squares / static_cast<double>(from.size()));
  };
  EXPECT_NEAR(error(kNf4), 0.092, 0.001);
  EXPECT_LT(error(kNf4Double), 1.001 * error(kNf4));
  EXPECT_EQ(kNf4Double.bytes(512), 272);
  EXPECT_EQ(kNf4Double.bytes(512 + 320), 272 + 8 + 5 * 33);
  EXPECT_EQ(kNf4Double.bytes(1024 + 65), 2 * 272 + 8 + 2 * 33);
}

TEST(CodecTable, a_wrong_name_is_answered_with_the_nearest) {
  const auto codec = codec_named("q41");
  ASSERT_FALSE(codec);
  EXPECT_NE(codec.error().message.find("q4_1"), std::string::npos) << codec.error().message;
}

}  // namespace
}  // namespace thimble
