// Thousands of damaged copies of good files. Whatever comes of opening and reading them, it is a value, never a fault;
// the sanitizers of the asan preset are the judges.
#include <gtest/gtest.h>

#include "damaged.h"
#include "files/gguf.h"
#include "memory_model.h"
#include "models/gguf_writer.h"
#include "models/hf_config.h"
#include "models/hf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

constexpr int kIterations = 600;  // of each format

void read_everything(const std::string& path) {
  const auto source = ModelSource::open(path);
  if (!source) {
    EXPECT_FALSE(source.error().message.empty());
    return;
  }
  for (const ModelTensor& tensor : (*source)->tensors()) {
    std::vector<std::byte> row(tensor.codec->bytes(tensor.shape.columns()));
    EXPECT_TRUE((*source)->read(tensor, tensor.shape.rows() - 1, 1, row)) << tensor.name;
  }
}

TEST(Mutation, gguf) {
  TemporaryFolder folder;
  const Random random(11, "gguf");
  uint64_t next = 0;
  for (const char* family : {"llama", "gpt2"}) {
    const MemoryModel model(tiny_architecture(family));
    TokenizerTables tokenizer{.model = "gpt2"};
    for (int i = 0; i < 11; ++i) tokenizer.tokens.push_back("token");
    ASSERT_TRUE(write_gguf_model(folder.file("good.gguf"), model.architecture, model.tensors, model.rows(),
                                 {.tokenizer = &tokenizer}));
    const std::string good = file_bytes(folder.file("good.gguf"));
    for (int i = 0; i < kIterations; ++i) {
      const std::string path = folder.write("m.gguf", damaged(good, random, next, 2500));
      read_everything(path);
      const auto file = GgufFile::open(path);
      if (!file) continue;
      for (const GgufValue& value : file->values()) {
        (void)file->integers(value.key);
        (void)file->floats(value.key);
        (void)file->for_each_string(value.key, [](std::string_view) -> Result<void> { return {}; });
      }
    }
  }
}

TEST(Mutation, safetensors) {
  TemporaryFolder folder;
  const Random random(12, "safetensors");
  uint64_t next = 0;
  const MemoryModel model(tiny_architecture("gpt2"));
  ASSERT_TRUE(write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows()));
  const std::string good = file_bytes(folder.file("m/model.safetensors"));
  for (int i = 0; i < kIterations; ++i) {
    folder.write("m/model.safetensors", damaged(good, random, next, 2500));
    read_everything(folder.file("m"));
  }
}

TEST(Mutation, config_json) {
  const Random random(13, "config");
  uint64_t next = 0;
  for (const char* family : {"llama", "mistral", "qwen2", "gpt2"}) {
    Architecture a = tiny_architecture(family);
    if (!a.ropes.empty()) {
      a.ropes[0].scaling = {.kind = RopeScaling::Kind::yarn, .factor = 2, .original_context = 8};
    }
    const auto good = config_text(a, {});
    ASSERT_TRUE(good) << good.error().message;
    for (int i = 0; i < kIterations; ++i) {
      const auto parsed = parse_config(damaged(*good, random, next, good->size()), "config.json");
      if (parsed) {
        EXPECT_TRUE(check(*parsed, "config.json"));
      }
    }
  }
}

TEST(Mutation, llama2c) {
  TemporaryFolder folder;
  const Random random(14, "llama2c");
  uint64_t next = 0;
  std::string good(28 + 4 * (16 + (4 + 64 + 4 + 3 * 16) + 4 + 8), '\0');
  const int32_t header[] = {4, 4, 1, 1, 1, 4, 2};
  std::memcpy(good.data(), header, sizeof(header));
  ASSERT_TRUE(ModelSource::open(folder.write("m.bin", good)));
  for (int i = 0; i < kIterations; ++i) read_everything(folder.write("m.bin", damaged(good, random, next, 28)));
}

}  // namespace
}  // namespace thimble
