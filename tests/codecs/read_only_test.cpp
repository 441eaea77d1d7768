// Formats that are read and not written, against PyPI's `gguf` (gguf.quants.dequantize), bit for bit: the hash is
// FNV-1a over the words of the f32 values of 64 blocks of the bytes made here.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "codecs/codec.h"

namespace thimble {
namespace {

struct Golden {
  std::string_view name;
  std::vector<int> halves;  // offsets of f16 numbers in a block, which are kept finite
  uint64_t hash;
};

const Golden kGoldens[] = {
    {"q2_K", {80, 82}, 0xe0238b6fee61f755}, {"q3_K", {108}, 0x45c0f012b30fd625}, {"iq4_nl", {0}, 0xe07dd870f9b36125},
    {"iq4_xs", {0}, 0x4f2ae782117415a5},    {"iq3_s", {0}, 0x78e93c9f356c7d65},  {"iq3_xxs", {0}, 0xf0ab215d0af0145d},
    {"iq2_s", {0}, 0x272c4bb9c8876351},     {"iq2_xs", {0}, 0xcc4f51c9aa421d91}, {"iq2_xxs", {0}, 0xb54686e23a801505},
    {"mxfp4", {}, 0x28977ac8d7eec325},      {"tq1_0", {52}, 0xb8dca652cc568325}, {"tq2_0", {64}, 0x7c8dfd60353d8325},
};

constexpr int64_t kBlocks = 64;

std::vector<std::byte> blocks_of(const Codec& codec, const Golden& golden) {
  std::vector<std::byte> bytes(static_cast<size_t>(kBlocks * codec.block_bytes));
  uint64_t state = 12345;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
  for (int64_t block = 0; block < kBlocks; ++block) {
    std::byte* const at = bytes.data() + block * codec.block_bytes;
    for (const int half : golden.halves) at[half + 1] &= std::byte{0xbb};
    if (codec.name == "mxfp4") at[0] = static_cast<std::byte>(static_cast<int>(at[0]) % 200);
  }
  return bytes;
}

uint64_t hash_of(const std::vector<float>& values) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const float value : values) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    hash = (hash ^ word) * 0x100000001b3u;
  }
  return hash;
}

TEST(ReadOnlyCodecs, decode_as_gguf_does_bit_for_bit) {
  ASSERT_EQ(std::size(kGoldens), read_only_codecs().size());
  for (const Codec* codec : read_only_codecs()) {
    SCOPED_TRACE(codec->name);
    const auto* const golden = std::find_if(std::begin(kGoldens), std::end(kGoldens),
                                            [&](const Golden& one) { return one.name == codec->name; });
    ASSERT_NE(golden, std::end(kGoldens));
    const std::vector<std::byte> bytes = blocks_of(*codec, *golden);
    std::vector<float> values(static_cast<size_t>(kBlocks * codec->block));
    codec->decode(bytes.data(), values.data(), std::ssize(values));
    EXPECT_EQ(hash_of(values), golden->hash);
  }
}

TEST(ReadOnlyCodecs, are_found_in_files_and_refused_for_writing) {
  for (const Codec* codec : read_only_codecs()) {
    EXPECT_FALSE(codec->writes());
    EXPECT_FALSE(codec->description.empty());
    EXPECT_EQ(find_codec(codec->name), codec);
    EXPECT_EQ(find_codec_gguf(codec->gguf_type), codec);
    const auto named = codec_named(codec->name);
    ASSERT_FALSE(named);
    EXPECT_NE(named.error().message.find("does not write it"), std::string::npos);
  }
  for (const Codec* codec : codecs()) EXPECT_TRUE(codec->writes());
}

}  // namespace
}  // namespace thimble
