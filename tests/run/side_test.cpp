// Networks beside the model, and other residual streams than the model's, in use: token by token, over a cache of their
// own, they make what they make of whole sequences, and an adapter that is read is the one that was written.
#include <gmock/gmock.h>

#include <cmath>

#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "plan/tiny_training.h"
#include "run/all_logits.h"
#include "run/generator.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

class SideInUse : public testing::TestWithParam<const Rewrite*> {
 protected:
  static constexpr int64_t kVocab = 160;

  void SetUp() override {
    const MemoryModel model(tiny_llama());
    const auto written = write_hf_model(folder_.file("m"), model.architecture, model.tensors, model.rows());
    ASSERT_TRUE(written) << written.error().message;
    write_random_adapter();
    for (int32_t i = 0; i < 40; ++i) ids_.push_back(1 + i * i * 7 % 150);
  }

  // Of all tensors that training has.
  void write_random_adapter() {
    const TrainingSpec spec = tiny_spec(*GetParam());
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan) << plan.error().message;
    AdapterToWrite out;
    const OptionValues& options = spec.rewrites.front().options;
    ASSERT_TRUE(fresh_rewrite(*GetParam(), {options, {}, ""}, spec.architecture, *out.config));
    for (const AdapterTensor& tensor : plan->train.adapter)
      out.tensors.emplace_back(tensor, plan->layout.find(tensor.value)->type.shape);
    const auto written = write_adapter(
        folder_.file("a"), out, [](const AdapterTensor& tensor, int64_t first, std::span<float> to) -> Result<void> {
          const Random random(5, tensor.value);
          const float deviation = tensor.value.find("norm") != std::string::npos ? 1 : 0.2f;
          for (size_t i = 0; i < to.size(); ++i) to[i] = deviation * random.normal(static_cast<uint64_t>(first) + i);
          return {};
        });
    ASSERT_TRUE(written) << written.error().message;
  }

  std::unique_ptr<Inference> open(bool adapted, const std::string& cache = "full") {
    auto opened = Inference::open({.model = folder_.file("m"),
                                   .adapter = adapted ? folder_.file("a") : "",
                                   .precision = "f32",
                                   .multiply = "f32",
                                   .cache_type = "f32",
                                   .cache = cache});
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  std::vector<float> all_logits(bool adapted) {
    const auto inference = open(adapted);
    const auto all = AllLogits::prepare(*inference, static_cast<int64_t>(ids_.size()));
    EXPECT_TRUE(all && (*all)->load()) << all.error().message;
    const auto found = (*all)->run(ids_);
    return {found->begin(), found->end()};
  }

  const TemporaryFolder folder_;
  std::vector<int32_t> ids_;
};

TEST_P(SideInUse, makes_over_a_cache_what_it_makes_of_whole_sequences) {
  const std::vector<float> expected = all_logits(true), without = all_logits(false);
  float largest = 1, moved = 0;
  for (size_t i = 0; i < expected.size(); ++i)
    largest = std::max(largest, std::abs(expected[i])), moved = std::max(moved, std::abs(expected[i] - without[i]));
  EXPECT_GT(moved, 0.01f * largest) << "the network says nothing";
  const auto inference = open(true);
  const auto generator = Generator::prepare(*inference, 2, 64);
  ASSERT_TRUE(generator) << generator.error().message;
  ASSERT_TRUE((*generator)->load());
  const std::vector<int32_t> other(ids_.rbegin(), ids_.rbegin() + 20);
  const Generator::Prompt prompts[] = {{1, std::span(other).first(3)}, {0, std::span(ids_).first(21)}};
  ASSERT_TRUE((*generator)->prefill(prompts));
  for (size_t i = 20; i < ids_.size(); ++i) {
    const Generator::Token token{0, ids_[i]};
    if (i > 20) {
      ASSERT_TRUE((*generator)->step({&token, 1}));
    }
    const auto found = (*generator)->logits(i == 20 ? 1 : 0);  // of the second prompt
    for (size_t v = 0; v < kVocab; ++v)
      ASSERT_NEAR(found[v], expected[i * kVocab + v], 2e-4f * largest) << i << " " << v;
  }
}

TEST_P(SideInUse, is_refused_where_the_cache_forgets) {
  if (!GetParam()->join) GTEST_SKIP() << "it has no cache of its own";
  const auto inference = open(true, "sink");
  ASSERT_TRUE(inference);
  const auto generator = Generator::prepare(*inference, 1, 64);
  ASSERT_FALSE(generator);
  EXPECT_THAT(generator.error().message, testing::HasSubstr("a cache of its own"));
}

std::vector<const Rewrite*> beside() {
  std::vector<const Rewrite*> out;
  for (const Rewrite* rewrite : rewrites())
    if ((rewrite->join || rewrite->stream) && !rewrite->training_only) out.push_back(rewrite);
  return out;
}

INSTANTIATE_TEST_SUITE_P(Table, SideInUse, testing::ValuesIn(beside()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace thimble
