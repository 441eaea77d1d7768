// DoRA of an embedding: a magnitude for each of its columns, which begins with the column's norm.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "adapters/adapter.h"
#include "plan/local_losses.h"

namespace thimble {
namespace {

const std::string kMagnitude = "model.embed_tokens.lora_magnitude_vector";

TrainingSpec spec_of(const OptimizerStack& optimizer) {
  TrainingSpec spec = adapted_spec(kDora, {{"rank", 2}}, optimizer);
  OptionValues values(kDora.options);
  EXPECT_TRUE(values.set("dora", "rank", 2));
  nlohmann::ordered_json config;
  spec.rewrites = {*fresh_rewrite(kDora, {values, {"embed_tokens", "down_proj"}, ""}, spec.architecture, config)};
  return spec;
}

TEST(DoraOfAnEmbedding, learns_magnitudes_of_columns) {
  const TrainingSpec spec = spec_of({&kSgd, {}});
  const Numbers begin = after_a_step(spec, 0), end = after_a_step(spec, 1, begin);
  ASSERT_TRUE(begin.contains(kMagnitude));
  EXPECT_EQ(std::ssize(begin.at(kMagnitude)), spec.architecture.width);
  EXPECT_NE(begin.at(kMagnitude), end.at(kMagnitude));
  EXPECT_NE(begin.at("model.embed_tokens.lora_embedding_A"), end.at("model.embed_tokens.lora_embedding_A"));
}

TEST(DoraOfAnEmbedding, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = spec_of({&kAdamw, {}});
  spec.accumulate = 2;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 3);
}

}  // namespace
}  // namespace thimble
