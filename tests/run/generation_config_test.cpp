#include "run/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

GenerationConfig read(const nlohmann::json& json) {
  TemporaryFolder folder;
  folder.write("generation_config.json", json.dump());
  auto config = read_generation_config(folder.path());
  EXPECT_TRUE(config) << config.error().message;
  return *config;
}

TEST(GenerationConfig, SamplesWhereItSaysSo) {
  SamplingOptions sampling;
  const auto qwen = read({{"do_sample", true}, {"temperature", 0.6}, {"top_k", 20}, {"top_p", 0.95}});
  EXPECT_EQ(apply(qwen, {}, sampling), "temperature 0.6, top-k 20, top-p 0.95");
  EXPECT_EQ(sampling.temperature, 0.6);
  EXPECT_EQ(sampling.top_k, 20);
  EXPECT_EQ(sampling.top_p, 0.95);
  sampling = {};
  apply(read({{"do_sample", true}}), {}, sampling);  // transformers' defaults
  EXPECT_EQ(sampling.temperature, 1);
  EXPECT_EQ(sampling.top_k, 50);
  sampling = {};
  EXPECT_EQ(apply(read({{"temperature", 0.6}, {"top_p", 0.5}}), {}, sampling), "");  // greedy, as in transformers
  EXPECT_EQ(sampling.temperature, 0);
}

TEST(GenerationConfig, WhatTheUserGaveGoesFirst) {
  SamplingOptions sampling{.temperature = 0.3, .top_p = 0.7};
  const auto config = read({{"do_sample", true}, {"temperature", 0.6}, {"top_k", 20}, {"top_p", 0.95}});
  EXPECT_EQ(apply(config, {.temperature = true, .top_p = true}, sampling), "top-k 20");
  EXPECT_EQ(sampling.temperature, 0.3);
  EXPECT_EQ(sampling.top_p, 0.7);
  sampling = {.temperature = 0};
  EXPECT_EQ(apply(config, {.temperature = true}, sampling), "");
  EXPECT_EQ(sampling.top_k, 0);
}

TEST(GenerationConfig, PenaltiesHoldWithoutSampling) {
  SamplingOptions sampling;
  EXPECT_EQ(apply(read({{"repetition_penalty", 1.1}}), {}, sampling), "repetition-penalty 1.1");
  EXPECT_EQ(sampling.repetition_penalty, 1.1);
}

TEST(GenerationConfig, WhatIsNotDoneIsNamed) {
  std::string said;
  listen_for_warnings([&](const std::string& text) { said += text; });
  const auto config = read({{"num_beams", 4},
                            {"no_repeat_ngram_size", 3},
                            {"suppress_tokens", {1}},
                            {"eos_token_id", 7},
                            {"num_beam_groups", 1},
                            {"early_stopping", false},
                            {"stop_strings", {"###"}}});
  listen_for_warnings({});
  EXPECT_EQ(config.stop_strings, std::vector<std::string>{"###"});
  EXPECT_THAT(said, AllOf(HasSubstr("no_repeat_ngram_size, num_beams, suppress_tokens"), Not(HasSubstr("eos_token_id")),
                          Not(HasSubstr("num_beam_groups"))));
  TemporaryFolder folder;
  folder.write("generation_config.json", R"({"top_k":"many"})");
  EXPECT_THAT(read_generation_config(folder.path()).error().message,
              HasSubstr("'top_k' is \"many\", expected a number"));
}

}  // namespace
}  // namespace thimble
