#include <gtest/gtest.h>

#include "files/gguf.h"
#include "files/safetensors.h"
#include "shared_data.h"

namespace thimble {
namespace {

TEST(Golden, safetensors_of_the_reference_implementation) {
  NEED_SHARED_DATA(path, "models/smollm2/logits.safetensors");
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  ASSERT_EQ(file->entries().size(), 6u);
  EXPECT_EQ(file->entries()[0].name, "prompt0");
  EXPECT_EQ(file->entries()[5].shape, (Shape{4, 49152}));
}

TEST(Golden, gguf_vocabulary_without_tensors) {
  NEED_SHARED_DATA(path, "models/ggml_vocab/ggml-vocab-gpt-2.gguf");
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_TRUE(file->tensors().empty());
  int64_t tokens = 0, bytes = 0;
  const auto done = file->for_each_string("tokenizer.ggml.tokens", [&](std::string_view token) -> Result<void> {
    ++tokens;
    bytes += static_cast<int64_t>(token.size());
    return {};
  });
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(tokens, 50257);
  EXPECT_GT(bytes, 300000);
  EXPECT_EQ(file->integers("tokenizer.ggml.token_type")->size(), 50257u);
}

TEST(Golden, gguf_of_a_real_model) {
  NEED_SMOLLM2(path);
  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->tensors().size(), 272u);
  EXPECT_EQ(*file->get<std::string>("tokenizer.ggml.pre"), "smollm");
  EXPECT_EQ(file->find_tensor("token_embd.weight")->shape, (Shape{49152, 576}));
}

}  // namespace
}  // namespace thimble
