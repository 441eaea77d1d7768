#include "run/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace thimble {
namespace {

std::map<int32_t, double> frequencies(const SamplingOptions& options, const std::vector<float>& logits, int draws) {
  auto sampler = Sampler::create(options, static_cast<int64_t>(logits.size()));
  EXPECT_TRUE(sampler);
  std::map<int32_t, double> out;
  for (int i = 0; i < draws; ++i) out[sampler->pick(logits, 0, static_cast<uint64_t>(i))] += 1.0 / draws;
  return out;
}

TEST(Sampler, temperature_zero_takes_the_first_of_the_largest) {
  auto sampler = Sampler::create({}, 4);
  EXPECT_EQ(sampler->pick(std::vector<float>{1, 3, 3, 2}, 0, 0), 1);
}

TEST(Sampler, likeliest_is_the_first_of_the_largest_of_many) {
  for (size_t size : {size_t{1}, size_t{1023}, size_t{1024}, size_t{5000}}) {
    std::vector<float> logits(size);
    for (size_t i = 0; i < size; ++i) logits[i] = -1e30f - 1e25f * static_cast<float>(i * 7919 % 61);
    EXPECT_EQ(likeliest(logits), std::max_element(logits.begin(), logits.end()) - logits.begin());
    logits.back() = 1;
    EXPECT_EQ(likeliest(logits), static_cast<int32_t>(size) - 1);
  }
}

TEST(Sampler, draws_as_the_softmax_says) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f)};
  auto found = frequencies({.temperature = 1}, logits, 20000);
  EXPECT_NEAR(found[0], 0.125, 0.01);
  EXPECT_NEAR(found[1], 0.25, 0.015);
  EXPECT_NEAR(found[2], 0.625, 0.015);
  found = frequencies({.temperature = 0.5}, logits, 20000);  // squares
  EXPECT_NEAR(found[0], 1.0 / 30, 0.01);
  EXPECT_NEAR(found[2], 25.0 / 30, 0.015);
}

TEST(Sampler, top_k_keeps_k) {
  const auto found = frequencies({.temperature = 10, .top_k = 2}, {1, 5, 2, 4}, 2000);
  EXPECT_EQ(found.size(), 2u);
  EXPECT_TRUE(found.contains(1) && found.contains(3));
}

TEST(Sampler, top_p_keeps_the_fewest_that_reach_p) {
  const std::vector<float> logits = {std::log(0.05f), std::log(0.5f), std::log(0.15f), std::log(0.3f)};
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.45}, logits, 2000).size(), 1u);
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.6}, logits, 2000).size(), 2u);
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.9}, logits, 2000).size(), 3u);
}

TEST(Sampler, equal_logits_survive_top_p) {
  EXPECT_EQ(frequencies({.temperature = 1, .top_p = 0.5}, {1, 1, 1, 1}, 2000).size(), 2u);
}

TEST(Sampler, the_same_seed_draws_the_same) {
  const std::vector<float> logits(100, 0.0f);
  auto a = Sampler::create({.temperature = 1, .seed = 7}, 100), b = Sampler::create({.temperature = 1, .seed = 7}, 100);
  auto other = Sampler::create({.temperature = 1, .seed = 8}, 100);
  int same = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(a->pick(logits, 3, i), b->pick(logits, 3, i));
    same += a->pick(logits, 3, i) == other->pick(logits, 3, i);
  }
  EXPECT_LT(same, 10);
}

TEST(Sampler, refuses_nonsense) {
  EXPECT_FALSE(Sampler::create({.temperature = -1}, 4));
  EXPECT_FALSE(Sampler::create({.temperature = NAN}, 4));
  EXPECT_FALSE(Sampler::create({.top_k = -1}, 4));
  EXPECT_FALSE(Sampler::create({.top_p = 0}, 4));
}

TEST(Sampler, min_p_keeps_what_is_so_likely_beside_the_likeliest) {
  const std::vector<float> logits = {std::log(0.05f), std::log(0.5f), std::log(0.15f), std::log(0.3f)};
  EXPECT_EQ(frequencies({.temperature = 1, .min_p = 0.2}, logits, 2000).size(), 3u);
  EXPECT_EQ(frequencies({.temperature = 1, .min_p = 0.5}, logits, 2000).size(), 2u);
  EXPECT_EQ(frequencies({.temperature = 1, .min_p = 1}, logits, 2000).size(), 1u);
}

// The entropy is 1.14, the surprises 3.00, 0.69, 1.90 and 1.20: nearest are those of 0.3, 0.5, 0.15, 0.05.
TEST(Sampler, typical_p_keeps_what_is_as_surprising_as_expected) {
  const std::vector<float> logits = {std::log(0.05f), std::log(0.5f), std::log(0.15f), std::log(0.3f)};
  const auto one = frequencies({.temperature = 1, .typical_p = 0.25}, logits, 500);
  EXPECT_EQ(one.size(), 1u);
  EXPECT_TRUE(one.contains(3));
  const auto two = frequencies({.temperature = 1, .typical_p = 0.5}, logits, 2000);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_TRUE(two.contains(3) && two.contains(1));
}

TEST(Sampler, penalties_change_the_logits_of_what_was_said) {
  const std::vector<int32_t> earlier = {1, 1, 3};
  const auto greedy = [&](SamplingOptions options, const std::vector<float>& logits) {
    auto sampler = Sampler::create(options, static_cast<int64_t>(logits.size()));
    const int32_t first = sampler->pick(logits, 0, 0, earlier);
    EXPECT_EQ(sampler->pick(logits, 0, 1, earlier), first);  // nothing is left from the call before
    return first;
  };
  EXPECT_EQ(greedy({}, {1, 3, 2, 2}), 1);
  EXPECT_EQ(greedy({.repetition_penalty = 2}, {1, 3, 2, 2}), 2);      // 3 / 2 < 2
  EXPECT_EQ(greedy({.repetition_penalty = 2}, {-3, -1, -5, -4}), 1);  // -1 * 2 > -3
  EXPECT_EQ(greedy({.repetition_penalty = 4}, {-3, -1, -5, -4}), 0);  // -1 * 4 < -3
  EXPECT_EQ(greedy({.presence_penalty = 0.9}, {1, 3, 2, 2}), 1);      // 2.1
  EXPECT_EQ(greedy({.presence_penalty = 1.1}, {1, 3, 2, 2}), 2);      // 1.9, once
  EXPECT_EQ(greedy({.frequency_penalty = 0.6}, {1, 3, 2, 2}), 2);     // 3 - 2 * 0.6
  EXPECT_EQ(greedy({.frequency_penalty = 0.6, .repeat_last = 1}, {1, 3, 2, 2}), 1);
  EXPECT_EQ(greedy({.repetition_penalty = 9, .repeat_last = 0}, {1, 3, 2, 2}), 1);
  EXPECT_FALSE(Sampler::create({.min_p = 1.5}, 4));
  EXPECT_FALSE(Sampler::create({.repetition_penalty = 0}, 4));
  EXPECT_FALSE(Sampler::create({.repeat_last = -2}, 4));
}

}  // namespace
}  // namespace thimble
