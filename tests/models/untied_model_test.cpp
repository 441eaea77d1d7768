// A head of its own for a model whose head is the embedding.
#include "models/untied_model.h"

#include <gtest/gtest.h>

#include "memory_model.h"
#include "models/hf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

std::unique_ptr<ModelSource> written(const TemporaryFolder& folder, bool tied) {
  Architecture a = tiny_architecture("llama");
  a.tied = tied;
  const MemoryModel model(a);
  const auto done = write_hf_model(folder.path(), a, model.tensors, model.rows());
  EXPECT_TRUE(done) << done.error().message;
  auto source = ModelSource::open(folder.path());
  EXPECT_TRUE(source) << source.error().message;
  return *std::move(source);
}

TEST(UntiedModel, its_head_begins_as_the_embedding) {
  TemporaryFolder folder;
  const auto source = with_own_head(written(folder, true));
  EXPECT_FALSE(source->architecture().tied);
  const ModelTensor *const head = source->find("lm_head.weight"), *const embedding =
                                                                      source->find("model.embed_tokens.weight");
  ASSERT_TRUE(head && embedding);
  EXPECT_EQ(head->shape, embedding->shape);
  EXPECT_EQ(read_all(*source, *head), read_all(*source, *embedding));
  EXPECT_EQ(source->tensors().back().name, head->name);
}

TEST(UntiedModel, another_model_stays_as_it_is) {
  TemporaryFolder folder;
  auto source = written(folder, false);
  const ModelSource* const before = source.get();
  EXPECT_EQ(with_own_head(std::move(source)).get(), before);
}

}  // namespace
}  // namespace thimble
