// Every field of tokenizer_config.json and every key of a tokenizer in GGUF that is documented is honoured, harmless
// with a reason, warned of, or refused.
#include "text/tokenizer_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/warnings.h"
#include "small_tokenizer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// transformers 5.24: PreTrainedTokenizerBase, and the classes of language models.
constexpr const char* kConfig[] = {
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
    "additional_special_tokens",
    "extra_special_tokens",
    "model_specific_special_tokens",
    "add_bos_token",
    "add_eos_token",
    "backend",
    "chat_template",
    "clean_up_tokenization_spaces",
    "max_length",
    "model_input_names",
    "model_max_length",
    "name_or_path",
    "pad_to_multiple_of",
    "padding_side",
    "processor_class",
    "response_schema",
    "response_template",
    "split_special_tokens",
    "tokenizer_class",
    "truncation_side",
    "verbose",
    "added_tokens_decoder",
    "add_prefix_space",
    "legacy",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "do_basic_tokenize",
    "never_split",
    "trim_offsets",
    "errors",
    "extra_ids",
    "use_default_system_prompt",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "use_fast",
};
// gguf 0.19, Keys.Tokenizer.
constexpr const char* kGguf[] = {
    "ggml.model",
    "ggml.pre",
    "ggml.tokens",
    "ggml.token_type",
    "ggml.token_type_count",
    "ggml.scores",
    "ggml.merges",
    "ggml.bos_token_id",
    "ggml.eos_token_id",
    "ggml.eot_token_id",
    "ggml.eom_token_id",
    "ggml.unknown_token_id",
    "ggml.seperator_token_id",
    "ggml.padding_token_id",
    "ggml.mask_token_id",
    "ggml.add_bos_token",
    "ggml.add_eos_token",
    "ggml.add_sep_token",
    "ggml.add_space_prefix",
    "ggml.remove_extra_whitespaces",
    "ggml.precompiled_charsmap",
    "huggingface.json",
    "rwkv.world",
    "chat_template",
    "chat_template.rag",
    "chat_templates",
    "ggml.fim_pre_token_id",
    "ggml.fim_suf_token_id",
    "ggml.fim_mid_token_id",
    "ggml.fim_pad_token_id",
    "ggml.fim_rep_token_id",
    "ggml.fim_sep_token_id",
    "ggml.prefix_token_id",
    "ggml.suffix_token_id",
    "ggml.middle_token_id",
};

void expect_known(std::span<const FieldNote> notes, std::span<const char* const> fields) {
  for (const char* field : fields) {
    const FieldNote* const note = find_note(notes, field);
    ASSERT_TRUE(note) << field;
    if (note->meaning != FieldMeaning::honoured) EXPECT_FALSE(note->why.empty()) << field;
  }
}

TEST(TokenizerFields, are_all_known) {
  expect_known(tokenizer_config_fields(), kConfig);
  expect_known(gguf_tokenizer_fields(), kGguf);
}

TEST(TokenizerFields, what_is_not_done_is_said_once_it_is_asked_for) {
  TemporaryFolder folder;
  folder.write("tokenizer.json", SmallByteBpe{}.json().dump());
  const auto said_of = [&](const std::string& config) {
    std::string said;
    folder.write("tokenizer_config.json", config);
    listen_for_warnings([&](const std::string& text) { said += text; });
    EXPECT_TRUE(must_open(folder.path()));
    listen_for_warnings({});
    return said;
  };
  EXPECT_EQ(said_of(R"({"split_special_tokens":false,"model_max_length":512,"sp_model_kwargs":{}})"), "");
  EXPECT_THAT(said_of(R"({"split_special_tokens":true})"), HasSubstr("'split_special_tokens' (texts of special"));
  EXPECT_THAT(said_of(R"({"next_years_field":"x"})"), HasSubstr("'next_years_field' (unknown)"));
}

}  // namespace
}  // namespace thimble
