// Every kind of tokenizer.json beside the `tokenizers` package: goldens made by tools/tokenizer_goldens.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "small_tokenizer.h"

namespace thimble {
namespace {

using testing::HasSubstr;
using Ids = std::vector<int32_t>;

std::vector<nlohmann::json> goldens() {
  std::ifstream in(THIMBLE_TESTS_FOLDER "/text/tokenizer_goldens.jsonl");
  std::vector<nlohmann::json> all;
  for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
  EXPECT_EQ(all.size(), 32u);
  return all;
}

Ids with_ends(Tokenizer& tokenizer, const std::string& text) {
  Ids ids = must_encode(tokenizer, text, {.bos = tokenizer.begins_with_bos(false, false)});
  ids.insert(ids.end(), tokenizer.ending().begin(), tokenizer.ending().end());
  return ids;
}

TEST(TokenizerKinds, GiveWhatTokenizersGives) {
  for (const auto& golden : goldens()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    TemporaryFolder folder;
    auto tokenizer = must_open(folder.write("tokenizer.json", golden["json"].dump()));
    ASSERT_TRUE(tokenizer);
    for (const auto& item : golden["cases"]) {
      const auto text = item[0].get<std::string>();
      auto ids = item[1].get<Ids>();
      // The beginning is not put there twice, which tokenizers would do.
      const bool begins = tokenizer->adds_bos() && tokenizer->first_special(text.substr(0, 3)) == tokenizer->bos();
      if (begins) ids.erase(ids.begin());
      EXPECT_EQ(with_ends(*tokenizer, text), ids) << text;
      // Of the dummy prefix after special tokens, and of an added token that was normalized, thimble decodes the
      // source.
      const bool source =
          golden["name"].get<std::string>().starts_with("llama_") || text.find("fooBar") != std::string::npos;
      if (item[2].is_string() && !begins && !source)
        EXPECT_EQ(tokenizer->decode(ids), item[2].get<std::string>()) << text;
    }
  }
}

TEST(TokenizerKinds, PartsAreTheWhole) {
  std::mt19937 random(5);
  for (const auto& golden : goldens()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    TemporaryFolder folder;
    auto tokenizer = must_open(folder.write("tokenizer.json", golden["json"].dump()));
    std::string text;
    for (const auto& item : golden["cases"]) text += item[0].get<std::string>() + " the fox jumps ";
    for (const size_t chunk : {1 + random() % 64, size_t{200}})
      EXPECT_EQ(encode_in_parts(*tokenizer, text, chunk), must_encode(*tokenizer, text));
  }
}

TEST(TokenizerKinds, SavedComesBackEqual) {
  for (const auto& golden : goldens()) {
    SCOPED_TRACE(golden["name"].get<std::string>());
    TemporaryFolder folder, copy;
    auto tokenizer = must_open(folder.write("tokenizer.json", golden["json"].dump()));
    const auto saved = tokenizer->save(copy.path());
    ASSERT_TRUE(saved) << saved.error().message;
    auto again = must_open(copy.path());
    ASSERT_TRUE(again);
    EXPECT_EQ(again->vocab_size(), tokenizer->vocab_size());
    for (const auto& item : golden["cases"])
      EXPECT_EQ(with_ends(*again, item[0].get<std::string>()), with_ends(*tokenizer, item[0].get<std::string>()));
  }
}

// What is not there is refused by its name; nothing is read over.
TEST(TokenizerKinds, UnknownPartsAreRefusedByName) {
  const auto all = goldens();
  const auto bert = std::ranges::find(all, "bert_uncased", [](const auto& golden) { return golden["name"]; });
  ASSERT_NE(bert, all.end());
  struct Case {
    const char* at;
    nlohmann::json value;
    const char* expected;
  };
  for (const auto& [at, value, expected] : {
           Case{"/normalizer", {{"type", "Transliterate"}}, "the normalizer 'Transliterate' is not supported"},
           Case{"/pre_tokenizer", {{"type", "UnicodeScripts"}}, "the pre-tokenizer 'UnicodeScripts' is not supported"},
           Case{"/post_processor", {{"type", "Odd"}}, "the post-processor 'Odd' is not supported"},
           Case{"/decoder", {{"type", "CTC"}}, "the decoder 'CTC' is not supported"},
           Case{"/model/type", "WordSmith", "the model 'WordSmith' is not supported; supported are BPE, Unigram"},
           Case{"/model/unk_token", "absent", "the unk_token 'absent' is not in the vocabulary"},
           Case{"/model/vocab", nlohmann::json::array(), "the WordPiece model has no object 'vocab'"},
           Case{"/pre_tokenizer",
                {{"type", "Split"}, {"behavior", "Odd"}, {"pattern", {{"String", " "}}}},
                "the behavior 'Odd' is not supported"},
           Case{"/pre_tokenizer",
                {{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "[a[b]]"}}}},
                "a set within a set"},
           Case{"/pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "odd"}}, "prepend_scheme 'odd'"},
           Case{"/pre_tokenizer",
                {{"type", "Split"}, {"pattern", {{"Regex", "(?=b)"}}}, {"behavior", "Isolated"}, {"invert", false}},
                "pattern '(?=b)' is not supported"},
           Case{"/normalizer",
                {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}},
                "pattern '' is not supported"},
           Case{"/post_processor",
                {{"type", "BertProcessing"}, {"sep", {"[NO]", 2}}, {"cls", {"[CLS]", 1}}},
                "the post-processor's token '[NO]' is not among the tokens"},
       }) {
    auto json = (*bert)["json"];
    json[nlohmann::json::json_pointer(at)] = value;
    TemporaryFolder folder;
    const auto tokenizer = Tokenizer::open(folder.write("tokenizer.json", json.dump()));
    ASSERT_FALSE(tokenizer) << expected;
    EXPECT_THAT(tokenizer.error().message, HasSubstr(expected));
  }
  auto json = (*bert)["json"];
  json["model"]["type"] = "BPE";
  json["model"]["merges"] = nlohmann::json::array();
  json["model"]["dropout"] = 0.1;
  TemporaryFolder folder;
  EXPECT_THAT(Tokenizer::open(folder.write("tokenizer.json", json.dump())).error().message,
              HasSubstr("dropout' is set"));
}

// Words with spaces between them, and what `change` makes of the file; what tokenizers 0.23 gives is beside each.
class Words : public testing::Test {
 protected:
  using Json = nlohmann::json;
  static Json added(int id, const std::string& content) {
    return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
            {"rstrip", false}, {"normalized", false}, {"special", true}};
  }
  static Json template_around(const std::string& before, const std::string& after) {
    const auto token = [](const std::string& id) { return Json{{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; };
    return {{"type", "TemplateProcessing"},
            {"single", {token(before), {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}, token(after)}}};
  }
  std::unique_ptr<Tokenizer> open(const Json& change, const Json& config = nullptr) {
    Json json = {{"added_tokens", {added(0, "<unk>"), added(1, "<s>"), added(2, "</s>"), added(3, "<pad>")}},
                 {"pre_tokenizer", {{"type", "Whitespace"}}},
                 {"model",
                  {{"type", "WordLevel"},
                   {"unk_token", "<unk>"},
                   {"vocab", {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}, {"<pad>", 3}, {"a", 4}, {"b", 5}, {"aĠb", 6}}}}}};
    json.update(change);
    folder_.write("tokenizer.json", json.dump());
    if (!config.is_null()) folder_.write("tokenizer_config.json", config.dump());
    return must_open(folder_.path());
  }
  Ids ids(const std::string& text, const Json& change, const Json& config = nullptr) {
    const auto tokenizer = open(change, config);
    if (!tokenizer) return {};
    EXPECT_EQ(encode_in_parts(*tokenizer, text + " " + text, 1), must_encode(*tokenizer, text + " " + text));
    return with_ends(*tokenizer, text);
  }

  TemporaryFolder folder_;
};

TEST_F(Words, stand_between_what_the_post_processor_says_whatever_is_called_bos) {
  const Json config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  EXPECT_EQ(ids("a", {{"post_processor", template_around("<pad>", "<unk>")}}, config), (Ids{3, 4, 0}));
}

TEST_F(Words, have_later_post_processors_around_earlier_ones) {
  const auto around = [](const char* cls, int first, const char* sep, int last) {
    return Json{{"type", "RobertaProcessing"}, {"cls", {cls, first}}, {"sep", {sep, last}}};
  };
  const Json both = {{"type", "Sequence"},
                     {"processors", {around("<s>", 1, "</s>", 2), around("<unk>", 0, "<pad>", 3)}}};
  EXPECT_EQ(ids("a", {{"post_processor", both}}), (Ids{0, 1, 4, 2, 3}));
}

TEST_F(Words, are_added_by_the_config_which_has_the_last_word_on_their_flags) {
  Json whole = added(3, "<pad>");
  whole["single_word"] = true;
  const Json config = {{"added_tokens_decoder", {{"3", whole}, {"7", added(7, "[MASK]")}}}};
  EXPECT_EQ(ids("a [MASK]", Json::object(), config), (Ids{4, 7}));
  EXPECT_EQ(ids("<pad>b <pad>", Json::object(), config), (Ids{0, 0, 0, 5, 3})) << "<, pad and > are unknown";
}

// Then no part of a text is certain before its end.
TEST_F(Words, reach_across_spaces_that_are_something_else_when_they_are_cut) {
  EXPECT_EQ(ids("a b", Json::object()), (Ids{4, 5}));
  EXPECT_EQ(ids("a b", {{"normalizer", {{"type", "ByteLevel"}}}}), (Ids{6}));
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "Ġ"}};
  EXPECT_EQ(ids("a b", {{"normalizer", replace}, {"pre_tokenizer", {{"type", "WhitespaceSplit"}}}}), (Ids{6}));
}

TEST_F(Words, of_bytes_are_characters_again_whatever_comes_after) {
  const Json words = {{"<unk>", 0},  {"<s>", 1},    {"</s>", 2},   {"<pad>", 3},
                      {"<0xC8>", 4}, {"<0xA8>", 5}, {"\u2581a", 6}};
  const Json decoders = {{{"type", "ByteFallback"}}, {{"type", "Metaspace"}, {"replacement", "\u2581"}}};
  const auto tokenizer = open({{"model", {{"type", "WordLevel"}, {"unk_token", "<unk>"}, {"vocab", words}}},
                               {"decoder", {{"type", "Sequence"}, {"decoders", decoders}}}});
  ASSERT_TRUE(tokenizer);
  EXPECT_EQ(tokenizer->decode(Ids{4, 5, 6}), "\u0228 a");
}

TEST_F(Words, of_characters_that_unicode_has_not_yet_stay) {
  EXPECT_EQ(ids("\U0003FFF0", {{"normalizer", {{"type", "BertNormalizer"}}}}), (Ids{0}));
}

// The same tokenizer as vocab.txt with tokenizer_config.json.
TEST(TokenizerKinds, VocabTxtIsBert) {
  for (const auto& golden : goldens()) {
    const auto name = golden["name"].get<std::string>();
    if (name != "bert_uncased" && name != "bert_cased" && name != "bert_accents") continue;
    SCOPED_TRACE(name);
    std::vector<std::string> words(golden["json"]["model"]["vocab"].size());
    for (const auto& [word, id] : golden["json"]["model"]["vocab"].items()) words[id.get<size_t>()] = word;
    std::string text;
    for (const std::string& word : words) text += word + "\n";
    TemporaryFolder folder;
    folder.write("vocab.txt", text);
    nlohmann::json config = {{"tokenizer_class", "BertTokenizer"}, {"do_lower_case", name != "bert_cased"}};
    if (name == "bert_accents") config["strip_accents"] = false;
    folder.write("tokenizer_config.json", config.dump());
    auto tokenizer = must_open(folder.path());
    ASSERT_TRUE(tokenizer);
    for (const auto& item : golden["cases"])
      EXPECT_EQ(with_ends(*tokenizer, item[0].get<std::string>()), item[1].get<Ids>()) << item[0];
    folder.write("tokenizer_config.json", R"({"tokenizer_class":"CTRLTokenizer"})");
    EXPECT_THAT(Tokenizer::open(folder.path()).error().message, HasSubstr("the tokenizer_class 'CTRLTokenizer'"));
  }
}

TEST(TokenizerKinds, TextOnCharactersMustBeUtf8) {
  const auto golden = goldens().front();
  TemporaryFolder folder;
  auto tokenizer = must_open(folder.write("tokenizer.json", golden["json"].dump()));
  Ids ids;
  const auto done = tokenizer->encode("[CLS] ab\xff", {}, ids);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("byte 0xFF at offset 8 is not UTF-8"));
}

}  // namespace
}  // namespace thimble
