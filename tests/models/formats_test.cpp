// llama2.c by a file made by hand, and what is none of our formats.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "files/binary_files.h"
#include "memory_model.h"
#include "models/model_source.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// Sections in the order of llama2.c's legacy_export; the value of every weight is its index in the file.
std::string llama2c_bytes(int32_t vocab, int64_t floats) {
  Bytes bytes;
  for (int32_t field : {12, 20, 2, 3, 1, vocab, 16}) bytes.add(field);
  for (int64_t i = 0; i < floats; ++i) bytes.add(static_cast<float>(i));
  return bytes.text();
}

constexpr int64_t kEmbedding = 11 * 12, kBlocks = 2 * (12 + 144 + 48 + 48 + 144 + 12 + 3 * 240), kRope = 16 * 4;

TEST(Llama2c, finds_its_sections) {
  TemporaryFolder folder;
  for (const bool tied : {true, false}) {
    const int64_t floats = kEmbedding + kBlocks + 12 + kRope + (tied ? 0 : kEmbedding);
    const auto source = ModelSource::open(folder.write("m.bin", llama2c_bytes(tied ? 11 : -11, floats)));
    ASSERT_TRUE(source) << source.error().message;
    const Architecture& a = (*source)->architecture();
    EXPECT_EQ(a.ropes.at(0).layout, Rope::Layout::interleaved);
    EXPECT_EQ(a.tied, tied);
    EXPECT_EQ(a.vocab, 11);
    const auto first = [&](std::string_view name) { return read_all(**source, *(*source)->find(name))[0]; };
    EXPECT_EQ(first("model.embed_tokens.weight"), 0);
    EXPECT_EQ(first("model.layers.1.input_layernorm.weight"), kEmbedding + 12);
    const int64_t queries = kEmbedding + 24, gates = queries + 2 * (144 + 48 + 48 + 144) + 24;
    EXPECT_EQ(first("model.layers.1.self_attn.q_proj.weight"), queries + 144);
    EXPECT_EQ(first("model.layers.1.mlp.gate_proj.weight"), gates + 240);
    EXPECT_EQ(first("model.layers.0.mlp.down_proj.weight"), gates + 480);
    EXPECT_EQ(first("model.layers.0.mlp.up_proj.weight"), gates + 960);
    EXPECT_EQ(first("model.norm.weight"), kEmbedding + kBlocks);
    if (!tied) {
      EXPECT_EQ(first("lm_head.weight"), kEmbedding + kBlocks + 12 + kRope);
    }
  }
}

TEST(Formats, says_what_it_knows) {
  TemporaryFolder folder;
  EXPECT_THAT(ModelSource::open(folder.write("m.pt", "PK")).error().message, HasSubstr("a .gguf file"));
  EXPECT_THAT(ModelSource::open(folder.path()).error().message, HasSubstr("config.json"));
  EXPECT_THAT(ModelSource::open(folder.file("absent.gguf")).error().message, HasSubstr("No such file"));
}

}  // namespace
}  // namespace thimble
