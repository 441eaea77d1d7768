// Caches that forget: in a model of one block, keys and values are those of tokens by themselves, so that what is left
// of a sequence is what the tokens that stayed are as a sequence of their own.
#include <gmock/gmock.h>

#include <cmath>

#include "methods/cache_policy.h"
#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "run/generator.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kContext = 16;

class Forgetting : public ::testing::Test {
 protected:
  Forgetting() {
    Architecture a = llama({.vocab = 40,
                            .width = 24,
                            .layers = 1,
                            .heads = 3,
                            .kv_heads = 1,
                            .head_dim = 8,
                            .ffn_width = 20,
                            .context = 512});
    const MemoryModel model(a);
    const auto written = write_hf_model(folder_.file("m"), a, model.tensors, model.rows());
    EXPECT_TRUE(written) << written.error().message;
    for (int32_t i = 0; i < 60; ++i) ids_.push_back(1 + i * i * 7 % 39);
  }
  InferenceOptions options(const std::string& cache) const {
    return {.model = folder_.file("m"), .precision = "f32", .multiply = "f32", .cache_type = "f32", .cache = cache};
  }
  // Logits after the tokens: the first `at_once` as a prompt, the others one after the other.
  std::vector<float> logits(const std::string& cache, std::span<const int32_t> ids, size_t at_once,
                            int64_t context = kContext) {
    const auto inference = Inference::open(options(cache));
    EXPECT_TRUE(inference) << inference.error().message;
    const auto generator = Generator::prepare(**inference, 1, context);
    EXPECT_TRUE(generator) << generator.error().message;
    EXPECT_TRUE((*generator)->load());
    const Generator::Prompt prompt{0, ids.first(at_once)};
    EXPECT_TRUE((*generator)->prefill({&prompt, 1}));
    for (const int32_t id : ids.subspan(at_once)) {
      const Generator::Token token{0, id};
      EXPECT_TRUE((*generator)->step({&token, 1}));
    }
    EXPECT_LE((*generator)->length(0), context);
    const auto found = (*generator)->logits(0);
    return {found.begin(), found.end()};
  }
  static void expect_near(const std::vector<float>& found, const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i)
      ASSERT_NEAR(found[i], expected[i], 1e-3f * (1 + std::abs(expected[i]))) << i;
  }

  const TemporaryFolder folder_;
  std::vector<int32_t> ids_;
};

TEST_F(Forgetting, leaves_the_sequence_of_what_stays) {
  std::vector<int32_t> stays;
  for (const int32_t id : ids_) {
    if (stays.size() == kContext) stays.erase(stays.begin() + 4, stays.begin() + 8);
    stays.push_back(id);
  }
  const std::vector<float> expected = logits("full", stays, stays.size());
  for (const size_t at_once : {size_t{1}, size_t{30}, ids_.size()}) {
    SCOPED_TRACE(at_once);
    expect_near(logits("sink", ids_, at_once), expected);
  }
}

TEST_F(Forgetting, weighs_tokens_alike_in_prompts_and_one_by_one) {
  const std::vector<float> whole = logits("sirllm", ids_, ids_.size());
  expect_near(logits("sirllm", ids_, 1), whole);
  expect_near(logits("sirllm", ids_, 23), whole);
  EXPECT_NE(whole, logits("sink", ids_, ids_.size()));
  expect_near(logits("sirllm", std::span(ids_).first(12), 12), logits("full", std::span(ids_).first(12), 12));
}

TEST_F(Forgetting, is_for_one_sequence_without_guesses) {
  const auto inference = Inference::open(options("sink"));
  ASSERT_TRUE(inference);
  EXPECT_FALSE(Generator::prepare(**inference, 2, kContext));
  InferenceOptions guesses = options("sink");
  guesses.decoder = "prompt_lookup";
  const auto refused = Inference::open(guesses);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--cache sink"));
}

std::vector<int32_t> kept(const CachePolicy& policy, std::vector<float>& surprise, int64_t most,
                          std::vector<std::pair<const char*, double>> set) {
  OptionValues options(policy.options);
  for (const auto& [name, value] : set) EXPECT_TRUE(options.set("cache", name, value));
  std::vector<int32_t> out;
  policy.keep(surprise, most, options, out);
  return out;
}

TEST(Sirllm, keeps_sinks_the_least_expected_and_the_last) {
  std::vector<float> surprise{0, 1, 9, 2, 8, 3, 8, 1, 1, 1};
  EXPECT_THAT(kept(kSirllmCache, surprise, 6, {{"sinks", 1}, {"recent", 0.4}, {"decay", 0.5}}),
              ElementsAre(0, 2, 4, 6, 8, 9));
  EXPECT_EQ(surprise[2], 4.5f);
}

TEST_F(Forgetting, refuses_more_sinks_than_stay) {
  InferenceOptions asked = options("sink");
  asked.set = {fmt::format("cache.sinks={}", kContext)};
  const auto inference = Inference::open(asked);
  ASSERT_TRUE(inference);
  const auto refused = (*inference)->context(kContext);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("first tokens are always to stay"));
  asked.set = {fmt::format("cache.sinks={}", places_kept(kContext))};
  EXPECT_TRUE((*Inference::open(asked))->context(kContext));
}

// Whatever is asked: in order, no more than may stay, none twice.
TEST(CachePolicies, keep_places_in_order) {
  for (const CachePolicy* policy : cache_policies()) {
    if (!policy->keep) continue;
    for (const int64_t count : {1, 5, 40})
      for (int64_t most = 1; most <= count; most += 3) {
        std::vector<float> surprise;
        for (int64_t i = 0; i < count; ++i) surprise.push_back(static_cast<float>(i * 7 % 11));
        const std::vector<int32_t> places = kept(*policy, surprise, most, {});
        EXPECT_EQ(static_cast<int64_t>(places.size()), most) << policy->name;
        EXPECT_TRUE(std::ranges::is_sorted(places) && std::ranges::adjacent_find(places) == places.end());
        EXPECT_LT(places.back(), count);
      }
  }
}

}  // namespace
}  // namespace thimble
