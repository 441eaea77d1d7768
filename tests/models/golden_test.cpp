#include <gtest/gtest.h>

#include "memory_model.h"
#include "models/gguf_writer.h"
#include "models/hf_writer.h"
#include "models/model_source.h"
#include "shared_data.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

TEST(Golden, stories260K) {
  NEED_SHARED_DATA(path, "models/stories260K/stories260K.bin");
  const auto source = ModelSource::open(path);
  ASSERT_TRUE(source) << source.error().message;
  const Architecture& a = (*source)->architecture();
  EXPECT_EQ(a.width, 64);
  EXPECT_EQ(a.layers(), 5);
  EXPECT_EQ(a.blocks[0].attention.kv_heads, 4);
  EXPECT_TRUE(a.tied);
  int64_t parameters = 0;
  for (const ModelTensor& tensor : (*source)->tensors()) parameters += tensor.shape.count();
  EXPECT_EQ(parameters, 260032);
}

// Through Hugging Face's layout and GGUF and back: the same rows, but for their order, which the folder fixes.
TEST(Golden, stories260K_through_the_writers) {
  NEED_SHARED_DATA(path, "models/stories260K/stories260K.bin");
  TemporaryFolder folder;
  const auto source = ModelSource::open(path);
  ASSERT_TRUE(source) << source.error().message;
  const auto write = [&](const ModelSource& from, const std::string& to, bool gguf) {
    if (gguf) return write_gguf_model(to, from.architecture(), from.tensors(), rows_of(from)).has_value();
    return write_hf_model(to, from.architecture(), from.tensors(), rows_of(from)).has_value();
  };
  ASSERT_TRUE(write(**source, folder.file("a"), false));
  ASSERT_TRUE(write(**source, folder.file("b.gguf"), true));
  const auto a = ModelSource::open(folder.file("a")), b = ModelSource::open(folder.file("b.gguf"));
  ASSERT_TRUE(a && b);
  for (const ModelTensor& tensor : (*a)->tensors()) {
    EXPECT_EQ(read_all(**a, tensor), read_all(**b, *(*b)->find(tensor.name))) << tensor.name;
  }
}

TEST(Golden, smollm2) {
  NEED_SMOLLM2(path);
  const auto source = ModelSource::open(path);
  ASSERT_TRUE(source) << source.error().message;
  const Architecture& a = (*source)->architecture();
  EXPECT_EQ(a.family, "llama");
  EXPECT_EQ(a.layers(), 30);
  EXPECT_EQ(a.blocks[0].attention.head_dim, 64);
  EXPECT_EQ(a.ropes.at(0).base, 100000);
  EXPECT_EQ((*source)->tensors().size(), 272u);
  // Weights of a trained model are small numbers; a wrong offset or codec would show.
  double squares = 0;
  const auto numbers = read_all(**source, *(*source)->find("model.layers.29.self_attn.k_proj.weight"));
  for (float x : numbers) squares += double{x} * x;
  const double rms = std::sqrt(squares / static_cast<double>(numbers.size()));
  EXPECT_GT(rms, 0.01);
  EXPECT_LT(rms, 1);
}

// A quantised file written as it is read has the same bytes in every tensor.
TEST(Golden, smollm2_written_again) {
  NEED_SMOLLM2(path);
  const auto source = ModelSource::open(path);
  ASSERT_TRUE(source) << source.error().message;
  TemporaryFolder folder;
  const auto before = GgufFile::open(path);
  const auto report = write_gguf_model(folder.file("m.gguf"), (*source)->architecture(), (*source)->tensors(),
                                       rows_of(**source), {.tokenizer_source = &*before});
  ASSERT_TRUE(report) << report.error().message;
  const auto after = GgufFile::open(folder.file("m.gguf"));
  ASSERT_TRUE(after) << after.error().message;
  for (const GgufTensor& tensor : before->tensors()) {
    const GgufTensor* written = after->find_tensor(tensor.name);
    ASSERT_TRUE(written) << tensor.name;
    ASSERT_EQ(written->type, tensor.type) << tensor.name;
    std::vector<std::byte> a(tensor.bytes), b(tensor.bytes);
    ASSERT_TRUE(before->file().read(tensor.offset, a));
    ASSERT_TRUE(after->file().read(written->offset, b));
    ASSERT_TRUE(a == b) << tensor.name;
  }
  EXPECT_EQ(before->get<GgufArray>("tokenizer.ggml.merges")->count,
            after->get<GgufArray>("tokenizer.ggml.merges")->count);
}

}  // namespace
}  // namespace thimble
