// Rows appended for the tokens of a larger tokenizer.
#include "models/grown_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "memory_model.h"
#include "models/hf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

class GrownModel : public ::testing::Test {
 protected:
  // A model with a head and a bias of its own, so that all kinds of rows are there.
  std::unique_ptr<ModelSource> written(const Codec* codec) {
    Architecture a = tiny_architecture("phi");
    model_ = std::make_unique<MemoryModel>(a);
    const auto done = write_hf_model(folder_.path(), a, model_->tensors, model_->rows(), {.codec = codec});
    EXPECT_TRUE(done) << done.error().message;
    auto source = ModelSource::open(folder_.path());
    EXPECT_TRUE(source) << source.error().message;
    return *std::move(source);
  }

  TemporaryFolder folder_;
  std::unique_ptr<MemoryModel> model_;
};

TEST_F(GrownModel, new_rows_are_the_mean) {
  constexpr int64_t kTokens = 14;
  const auto grown = with_rows(written(&kF32), kTokens);
  ASSERT_TRUE(grown) << grown.error().message;
  const ModelSource& source = **grown;
  EXPECT_EQ(source.architecture().vocab, kTokens);
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight", "lm_head.bias"}) {
    SCOPED_TRACE(name);
    const ModelTensor* const tensor = source.find(name);
    ASSERT_TRUE(tensor);
    const std::vector<float>& old = model_->values.at(name);
    const size_t width = tensor->shape.rank() == 1 ? 1 : static_cast<size_t>(tensor->shape.columns());
    const size_t rows = old.size() / width;
    std::vector<double> mean(width);
    for (size_t i = 0; i < old.size(); ++i) mean[i % width] += old[i] / static_cast<double>(rows);
    const std::vector<float> all = read_all(source, *tensor);
    ASSERT_EQ(all.size(), kTokens * width);
    for (size_t i = 0; i < all.size(); ++i)
      ASSERT_NEAR(all[i], i < old.size() ? old[i] : mean[i % width], i < old.size() ? 0 : 1e-6) << i;
    if (tensor->shape.rank() == 1) continue;
    // Rows across the border, and new ones only.
    for (const int64_t first : {int64_t{9}, int64_t{12}}) {
      std::vector<float> some(2 * width);
      ASSERT_TRUE(source.read(*tensor, first, 2, std::as_writable_bytes(std::span(some))));
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + first * static_cast<int64_t>(width)));
    }
  }
  // All else is as it was.
  const ModelTensor* const other = source.find("model.layers.1.mlp.up_proj.weight");
  EXPECT_EQ(read_all(source, *other), model_->values.at(other->name));
}

}  // namespace
}  // namespace thimble
