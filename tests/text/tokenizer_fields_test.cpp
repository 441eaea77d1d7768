// Every field of tokenizer_config.json and every key of a tokenizer in GGUF that is documented is honoured, harmless
// with a reason, warned of, or refused.
#include "text/tokenizer_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "small_tokenizer.h"
#include "temporary_folder.h"
#include "text/tokenizer_json_fields.h"

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
    "ggml.normalizer.lowercase",
    "ggml.normalizer.strip_accents",
    "ggml.suppress_tokens",
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

// tokenizers 0.23: what its components write into tokenizer.json.
constexpr const char* kParts[] = {"version",
                                  "truncation",
                                  "padding",
                                  "added_tokens",
                                  "normalizer",
                                  "pre_tokenizer",
                                  "post_processor",
                                  "decoder",
                                  "model",
                                  "added.id",
                                  "added.content",
                                  "added.single_word",
                                  "added.lstrip",
                                  "added.rstrip",
                                  "added.normalized",
                                  "added.special",
                                  "BPE.dropout",
                                  "BPE.unk_token",
                                  "BPE.continuing_subword_prefix",
                                  "BPE.end_of_word_suffix",
                                  "BPE.fuse_unk",
                                  "BPE.byte_fallback",
                                  "BPE.ignore_merges",
                                  "BPE.vocab",
                                  "BPE.merges",
                                  "WordPiece.unk_token",
                                  "WordPiece.continuing_subword_prefix",
                                  "WordPiece.max_input_chars_per_word",
                                  "WordPiece.vocab",
                                  "WordLevel.vocab",
                                  "WordLevel.unk_token",
                                  "Unigram.unk_id",
                                  "Unigram.vocab",
                                  "Unigram.byte_fallback",
                                  "BertNormalizer.clean_text",
                                  "BertNormalizer.handle_chinese_chars",
                                  "BertNormalizer.strip_accents",
                                  "BertNormalizer.lowercase",
                                  "Strip.strip_left",
                                  "Strip.strip_right",
                                  "Prepend.prepend",
                                  "Replace.pattern",
                                  "Replace.content",
                                  "Precompiled.precompiled_charsmap",
                                  "ByteLevel.add_prefix_space",
                                  "ByteLevel.trim_offsets",
                                  "ByteLevel.use_regex",
                                  "Metaspace.replacement",
                                  "Metaspace.prepend_scheme",
                                  "Metaspace.split",
                                  "Metaspace.add_prefix_space",
                                  "Metaspace.str_rep",
                                  "Split.pattern",
                                  "Split.behavior",
                                  "Split.invert",
                                  "Digits.individual_digits",
                                  "Punctuation.behavior",
                                  "CharDelimiterSplit.delimiter",
                                  "FixedLength.length",
                                  "TemplateProcessing.single",
                                  "TemplateProcessing.pair",
                                  "TemplateProcessing.special_tokens",
                                  "BertProcessing.sep",
                                  "BertProcessing.cls",
                                  "RobertaProcessing.sep",
                                  "RobertaProcessing.cls",
                                  "RobertaProcessing.trim_offsets",
                                  "RobertaProcessing.add_prefix_space",
                                  "Strip.content",
                                  "Strip.start",
                                  "Strip.stop",
                                  "WordPiece.prefix",
                                  "WordPiece.cleanup",
                                  "BPEDecoder.suffix"};

TEST(TokenizerJson, fields_are_all_known) { expect_known(tokenizer_json_fields(), kParts); }

TEST(TokenizerJson, unknown_fields_are_said_once_they_ask_for_something) {
  TemporaryFolder folder;
  const auto said_of = [&](const std::function<void(nlohmann::json&)>& change) {
    nlohmann::json json = SmallByteBpe{}.json();
    change(json);
    std::string said;
    listen_for_warnings([&](const std::string& text) { said += text; });
    EXPECT_TRUE(must_open(folder.write("tokenizer.json", json.dump())));
    listen_for_warnings({});
    return said;
  };
  EXPECT_EQ(said_of([](auto& json) {
              json["truncation"] = {{"max_length", 8}}, json["padding"] = {{"pad_id", 3}};
              json["next_year"] = nullptr, json["model"]["next_year"] = false;
            }),
            "");
  EXPECT_THAT(said_of([](auto& json) { json["top_field"] = "x"; }), HasSubstr("'top_field' (unknown)"));
  EXPECT_THAT(said_of([](auto& json) { json["added_tokens"][0]["token_field"] = true; }),
              HasSubstr("'added.token_field' (unknown)"));
  EXPECT_THAT(said_of([](auto& json) { json["model"]["model_field"] = 7; }), HasSubstr("'BPE.model_field' (unknown)"));
  EXPECT_THAT(said_of([](auto& json) {
                json["decoder"]["part_field"] = {1, 2};
              }),
              HasSubstr("'ByteLevel.part_field' (unknown)"));
}

// Characters as tokens, and merges that show where a text is cut.
nlohmann::json characters() {
  nlohmann::json vocab = nlohmann::json::object();
  const auto add = [&](const std::string& token) { vocab.emplace(token, vocab.size()); };
  for (char c = 32; c < 127; ++c) add(std::string(1, c));
  for (const char* token : {"\u2581", "\u0120", "\u00e9", "ab", "12", "..", "\u2581a", "?a", "b1"}) add(token);
  const auto merge = [](const char* left, const char* right) { return nlohmann::json::array({left, right}); };
  return {{"model",
           {{"type", "BPE"},
            {"unk_token", "?"},
            {"vocab", vocab},
            {"merges", nlohmann::json::array({merge("a", "b"), merge("1", "2"), merge(".", "."), merge("\u2581", "a"),
                                              merge("b", "1")})}}}};
}

// An honoured field changes what comes out when it changes.
TEST(TokenizerJson, honoured_fields_change_the_tokens) {
  struct Change {
    const char *part, *base, *changed;
  };
  constexpr Change kChanges[] = {
      {"pre_tokenizer", R"({"type":"Digits","individual_digits":false})",
       R"({"type":"Digits","individual_digits":true})"},
      {"pre_tokenizer", R"({"type":"Punctuation","behavior":"Isolated"})",
       R"({"type":"Punctuation","behavior":"Contiguous"})"},
      {"pre_tokenizer", R"({"type":"CharDelimiterSplit","delimiter":"z"})",
       R"({"type":"CharDelimiterSplit","delimiter":"b"})"},
      {"pre_tokenizer", R"({"type":"FixedLength","length":100})", R"({"type":"FixedLength","length":1})"},
      {"pre_tokenizer", R"({"type":"Split","pattern":{"String":"b"},"behavior":"Isolated","invert":false})",
       R"({"type":"Split","pattern":{"String":"b"},"behavior":"Removed","invert":false})"},
      {"pre_tokenizer", R"({"type":"Split","pattern":{"String":"b"},"behavior":"Removed","invert":false})",
       R"({"type":"Split","pattern":{"String":"b"},"behavior":"Removed","invert":true})"},
      {"pre_tokenizer", R"({"type":"Split","pattern":{"String":"b"},"behavior":"Isolated","invert":false})",
       R"({"type":"Split","pattern":{"String":"."},"behavior":"Isolated","invert":false})"},
      {"pre_tokenizer", R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"always","split":true})",
       R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"never","split":true})"},
      {"pre_tokenizer", R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"never","split":true})",
       R"({"type":"Metaspace","replacement":"?","prepend_scheme":"never","split":true})"},
      {"normalizer", R"({"type":"Prepend","prepend":"a"})", R"({"type":"Prepend","prepend":"c"})"},
      {"normalizer", R"({"type":"Replace","pattern":{"String":"a"},"content":"c"})",
       R"({"type":"Replace","pattern":{"String":"a"},"content":"d"})"},
      {"normalizer", R"({"type":"Replace","pattern":{"String":"a"},"content":"c"})",
       R"({"type":"Replace","pattern":{"String":"b"},"content":"c"})"},
      {"normalizer", R"({"type":"Strip","strip_left":true,"strip_right":true})",
       R"({"type":"Strip","strip_left":false,"strip_right":true})"},
      {"normalizer", R"({"type":"Strip","strip_left":true,"strip_right":true})",
       R"({"type":"Strip","strip_left":true,"strip_right":false})"},
      {"normalizer",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":false,"lowercase":false})",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":false,"lowercase":true})"},
      {"normalizer",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":false,"lowercase":false})",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":true,"lowercase":false})"},
      {"normalizer",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":false,"lowercase":false})",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":false,"lowercase":false})"},
      {"normalizer",
       R"({"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":false,"strip_accents":false,"lowercase":false})",
       R"({"type":"BertNormalizer","clean_text":false,"handle_chinese_chars":false,"strip_accents":false,"lowercase":false})"},
  };
  const std::string text = " ab12..b1 a\tA\u00e9\u4e2d ";
  for (const Change& change : kChanges) {
    SCOPED_TRACE(change.changed);
    TemporaryFolder folder;
    const auto ids = [&](const char* part) {
      nlohmann::json json = characters();
      json[change.part] = nlohmann::json::parse(part);
      auto tokenizer = must_open(folder.write("tokenizer.json", json.dump()));
      if (!tokenizer) return std::vector<int32_t>();
      std::vector<int32_t> all = must_encode(*tokenizer, text), more = must_encode(*tokenizer, "a" + text);
      all.insert(all.end(), more.begin(), more.end());
      return all;
    };
    const auto base = ids(change.base);
    EXPECT_FALSE(base.empty());
    EXPECT_NE(base, ids(change.changed));
  }
}

}  // namespace
}  // namespace thimble
