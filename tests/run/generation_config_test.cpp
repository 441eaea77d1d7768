#include "run/generation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "run/completion.h"
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
  EXPECT_THAT(said,
              AllOf(HasSubstr("'no_repeat_ngram_size' (repeated"),
                    HasSubstr("'num_beams' (there is no search over beams), 'suppress_tokens' (tokens are not banned)"),
                    Not(HasSubstr("eos_token_id")), Not(HasSubstr("num_beam_groups"))));
  TemporaryFolder folder;
  folder.write("generation_config.json", R"({"top_k":"many"})");
  EXPECT_THAT(read_generation_config(folder.path()).error().message,
              HasSubstr("'top_k' is \"many\", expected a number"));
}

TEST(GenerationConfig, LengthsOfPromptAndReply) {
  EXPECT_EQ(read({{"max_length", 64}}).max_length, 64);
  EXPECT_EQ(read({{"max_length", 64}, {"max_new_tokens", 8}}).max_length, std::nullopt);  // which goes first
  const CompletionOptions options{.max_tokens = 256, .max_length = 64};
  EXPECT_EQ(options.most_after(60), 4);
  EXPECT_EQ(options.most_after(64), 0);
  EXPECT_EQ(CompletionOptions{}.most_after(1000), 256);
}

// GenerationConfig().to_dict() of transformers 5.24.
constexpr const char* kTransformers[] = {
    "_from_model_config",
    "assistant_confidence_threshold",
    "assistant_early_exit",
    "assistant_ensemble_weight",
    "assistant_lookbehind",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_config",
    "cache_implementation",
    "compile_config",
    "constraints",
    "continuous_batching_config",
    "decoder_start_token_id",
    "disable_compile",
    "diversity_penalty",
    "do_sample",
    "dola_layers",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "encoder_repetition_penalty",
    "eos_token_id",
    "epsilon_cutoff",
    "eta_cutoff",
    "exponential_decay_length_penalty",
    "force_words_ids",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "guidance_scale",
    "is_assistant",
    "length_penalty",
    "low_memory",
    "max_cache_len",
    "max_length",
    "max_matching_ngram_size",
    "max_new_tokens",
    "max_time",
    "min_length",
    "min_new_tokens",
    "min_p",
    "no_repeat_ngram_size",
    "num_assistant_tokens",
    "num_assistant_tokens_schedule",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_logits",
    "output_scores",
    "pad_token_id",
    "penalty_alpha",
    "prefill_chunk_size",
    "prompt_lookup_num_tokens",
    "remove_invalid_values",
    "renormalize_logits",
    "repetition_penalty",
    "return_dict_in_generate",
    "sequence_bias",
    "speculation_type",
    "stop_strings",
    "suppress_tokens",
    "target_lookbehind",
    "temperature",
    "token_healing",
    "top_h",
    "top_k",
    "top_p",
    "transformers_version",
    "typical_p",
    "use_cache",
    "use_mtp",
    "watermarking_config",
};

TEST(GenerationConfig, EveryFieldIsKnown) {
  for (const char* field : kTransformers) {
    const FieldNote* const note = find_note(generation_fields(), field);
    ASSERT_TRUE(note) << field;
    if (note->meaning != FieldMeaning::honoured) EXPECT_FALSE(note->why.empty()) << field;
  }
}

// A field is warned of by name once it asks for something, and only then.
TEST(GenerationConfig, WhatIsNotDoneIsWarnedOf) {
  for (const FieldNote& note : generation_fields()) {
    if (note.field.ends_with('*')) continue;
    const bool number =
        note.meaning == FieldMeaning::honoured && note.field != "stop_strings" && note.field != "do_sample";
    for (const nlohmann::json& value : {nlohmann::json(nullptr), number ? nlohmann::json(7) : nlohmann::json("x")}) {
      std::string said;
      listen_for_warnings([&](const std::string& text) { said += text; });
      read({{std::string(note.field), value}});
      listen_for_warnings({});
      const bool warns = note.meaning == FieldMeaning::warned && !value.is_null();
      EXPECT_EQ(said.find("'" + std::string(note.field) + "'") != std::string::npos, warns) << note.field;
    }
  }
}

}  // namespace
}  // namespace thimble
