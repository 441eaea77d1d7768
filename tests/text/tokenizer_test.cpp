#include "text/tokenizer.h"

#include <gmock/gmock.h>

#include <chrono>
#include <random>

#include "small_tokenizer.h"
#include "text/pre_tokenizer.h"

namespace thimble {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// Text that is hard on pre-tokenizers: blanks, digits, marks, broken UTF-8, special tokens cut short.
std::string random_text(std::mt19937& random, size_t pieces) {
  static const std::vector<std::string> kPieces = {
      " ",          "  ",          "\n",           "\n\n",       "\t",     "\r\n",   "hello",
      "world",      "'s",          "'LL",          "12",         "3",      "\u00bd", "a",
      "\u00e9",     "e\u0301",     "\u65e5\u672c", "\U0001f600", "\u00a0", "\u3000", "\u180e",
      "<|im_end|>", "<|im_end|>>", "<|im_",        "<s>",        "</s",    ".",      "...!",
      "_",          "\xff",        "\xe2\x82",     "\xf0\x9f",   "\xc3",   "\x80",   std::string("\0", 1)};
  std::string text;
  for (size_t i = 0; i < pieces; ++i) {
    if (random() % 8 == 0) {
      text += static_cast<char>(random());
    } else {
      text += kPieces[random() % kPieces.size()];
    }
  }
  return text;
}

TEST(ByteBpe, MergesByRank) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder);
  EXPECT_THAT(must_encode(*tokenizer, "hello world"), ElementsAre(259, 260, 'o', 'r', 'l', 'd'));
  EXPECT_THAT(must_encode(*tokenizer, "aaaaaaa"), ElementsAre(262, 261, 'a'));
  EXPECT_EQ(tokenizer->bytes(259), "hello");
  EXPECT_EQ(tokenizer->bytes(-1), "");
  EXPECT_EQ(tokenizer->bytes(1000), "");
  EXPECT_EQ(tokenizer->find("hello"), 259);
  EXPECT_EQ(tokenizer->find("none"), std::nullopt);
}

TEST(ByteBpe, LongestSpecialTokenFirst) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder);
  EXPECT_EQ(tokenizer->bos(), 270);
  EXPECT_EQ(tokenizer->eos(), 271);
  EXPECT_TRUE(tokenizer->is_special(268));
  EXPECT_FALSE(tokenizer->is_special('a'));
  EXPECT_THAT(must_encode(*tokenizer, "a<|im_end|>b<|im_end|>>", {.bos = true}), ElementsAre(270, 'a', 268, 'b', 269));
  const auto plain = must_encode(*tokenizer, "<|im_end|>", {.special = false});
  EXPECT_EQ(plain.size(), 10u);
  EXPECT_EQ(tokenizer->decode(plain), "<|im_end|>");
}

TEST(ByteBpe, AnyBytesComeBack) {
  TemporaryFolder folder;
  std::mt19937 random(7);
  for (const char* pattern : {"gpt2", "llama3"}) {
    SmallByteBpe small;
    if (pattern == std::string("llama3")) {
      small.pre_tokenizer = {
          {"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern",
              {{"Regex",
                R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"}}},
             {"behavior", "Isolated"}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
    }
    auto tokenizer = small_byte_bpe(folder, "", small);
    ASSERT_TRUE(tokenizer);
    for (int round = 0; round < 300; ++round) {
      const std::string text = random_text(random, random() % 200);
      const auto ids = must_encode(*tokenizer, text);
      ASSERT_EQ(tokenizer->decode(ids), text);
      ASSERT_EQ(encode_in_parts(*tokenizer, text, 1 + random() % 64), ids) << "parts differ from the whole";
    }
  }
}

TEST(ByteBpe, NormalisesToNfc) {
  TemporaryFolder folder;
  auto json = SmallByteBpe().json();
  auto plain = must_open(folder.write("tokenizer.json", json.dump()));
  json["normalizer"] = {{"type", "NFC"}};
  auto tokenizer = must_open(folder.write("nfc.json", json.dump()));
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"e\u0301", "\u00e9"},                      // a mark joins
      {"q\u0307\u0323", "q\u0323\u0307"},         // marks are put in order
      {"d\u0307\u0323", "\u1e0d\u0307"},          // and then joined
      {"\u1100\u1161\u11a8", "\uac01"},           // Hangul
      {"\u212b \u0958", "\u00c5 \u0915\u093c"},   // a singleton, and an exclusion
      {"a\u0301\xff\u0301", "\u00e1\xff\u0301"},  // broken bytes join with nothing
      {"\u0301x", "\u0301x"},
  };
  for (const auto& [text, normal] : cases) {
    EXPECT_EQ(tokenizer->decode(must_encode(*tokenizer, text)), normal) << text;
    EXPECT_EQ(must_encode(*tokenizer, text), must_encode(*plain, normal));
  }
  std::mt19937 random(9);
  for (int round = 0; round < 300; ++round) {
    std::string text = random_text(random, random() % 100);
    for (int i = 0; i < 10; ++i) text.insert(random() % (text.size() + 1), cases[random() % cases.size()].first);
    ASSERT_EQ(encode_in_parts(*tokenizer, text, 1 + random() % 64), must_encode(*tokenizer, text));
  }
}

TEST(ByteBpe, HostileTextIsFast) {
  TemporaryFolder folder;
  auto tokenizer = small_byte_bpe(folder);
  for (const char* unit : {"a", " ", "<", "\n", "\xff", "1", "h", "<|im_end|"}) {
    std::string text;
    while (text.size() < 1 << 20) text += unit;
    const auto start = std::chrono::steady_clock::now();
    const auto ids = must_encode(*tokenizer, text);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(tokenizer->decode(ids), text);
    EXPECT_LT(seconds.count(), 5.0) << unit;  // well under one second but for sanitizers
  }
}

TEST(ByteBpe, MissingByteIsNamed) {
  TemporaryFolder folder;
  auto json = SmallByteBpe().json();
  json["model"]["vocab"].erase("z");
  auto tokenizer = must_open(folder.write("tokenizer.json", json.dump()));
  std::vector<int32_t> ids;
  const auto done = tokenizer->encode("hello <s>jazz", {}, ids);
  ASSERT_FALSE(done);
  EXPECT_EQ(done.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(done.error().message, HasSubstr("byte 0x7A at offset 11"));
}

TEST(ByteBpe, WholePieceFirst) {
  TemporaryFolder folder;
  auto json = SmallByteBpe().json();
  json["model"]["vocab"]["xyz"] = 500;
  EXPECT_EQ(must_encode(*must_open(folder.write("tokenizer.json", json.dump())), "xyz").size(), 3u);
  json["model"]["ignore_merges"] = true;
  EXPECT_THAT(must_encode(*must_open(folder.write("tokenizer.json", json.dump())), "xyz"), ElementsAre(500));
}

TEST(ByteBpe, SpecialTokensTakeWhitespace) {
  TemporaryFolder folder;
  auto json = SmallByteBpe().json();
  json["added_tokens"][3]["rstrip"] = true;
  json["added_tokens"][4]["lstrip"] = true;
  auto tokenizer = must_open(folder.write("tokenizer.json", json.dump()));
  EXPECT_THAT(must_encode(*tokenizer, "b<s> \n c \u3000</s> d"), ElementsAre('b', 270, 'c', 271, ' ', 'd'));
}

// A space goes before every stretch between special tokens; a class of transformers may say otherwise beside the file.
TEST(ByteBpe, PrefixSpaceBeforeEveryStretch) {
  TemporaryFolder folder;
  SmallByteBpe small;
  small.pre_tokenizer["add_prefix_space"] = true;
  auto tokenizer = small_byte_bpe(folder, "", small);
  EXPECT_THAT(must_encode(*tokenizer, "<s>a</s>b</s> b"), ElementsAre(270, ' ', 'a', 271, ' ', 'b', 271, ' ', 'b'));
  EXPECT_THAT(must_encode(*tokenizer, "a", {.continued = true}), ElementsAre('a'));
  folder.write("tokenizer_config.json", R"({"tokenizer_class":"GPT2Tokenizer","add_prefix_space":false})");
  EXPECT_THAT(must_encode(*must_open(folder.path()), "<s>a"), ElementsAre(270, 'a'));
}

class Gather final : public PreTokenizer::Sink {
 public:
  Result<void> piece(std::string_view bytes) override { return pieces.emplace_back(bytes), Result<void>(); }
  std::vector<std::string> pieces;
};

std::vector<std::string> pieces_of(std::string_view name, std::string_view text) {
  const auto named = find_named_pattern(name);
  if (!named) return {named.error().message};
  const auto pre = PreTokenizer::make((*named)->patterns);
  if (!pre) return {pre.error().message};
  Gather gather;
  EXPECT_TRUE(pre->split(text, false, gather));
  return gather.pieces;
}

// Where the patterns of GGUF's names cut, worked out by hand from what llama.cpp says of them.
TEST(NamedPatterns, CutWhereTheirNamesSay) {
  using List = std::vector<std::string>;
  EXPECT_EQ(pieces_of("superbpe", "a 1234567 b"), List({"a ", "1", "234", "567", " b"}));
  EXPECT_EQ(pieces_of("afmoe", "x12345"), List({"x", "12", "345"}));
  EXPECT_EQ(pieces_of("tiny_aya", "Hi 12345"), List({"Hi", " ", "12", "345"}));
  EXPECT_EQ(pieces_of("kimi-k2", "Hello世界HTTPx 1234"), List({"Hello", "世界", "HTTPx", " ", "123", "4"}));
  EXPECT_EQ(pieces_of("ufakzeka", "Ali'nin 12"), List({"Ali", "'nin", " ", "1", "2"}));
  EXPECT_EQ(pieces_of("qwen35", "e\u0301a b"), List({"e\u0301a", " b"}));
  EXPECT_EQ(pieces_of("jais-2", "a" + std::string(7, ' ') + "b"), List({"a", "    ", "  ", " b"}));
  EXPECT_EQ(pieces_of("laguna", "a\n\nb"), List({"a", "\n\n", "b"}));
  EXPECT_EQ(pieces_of("minicpm5", "a12345"), List({"a", "123", "45"}));
  EXPECT_EQ(pieces_of("deepseek-llm", "Hé, 12世界\n"), List({"H", "é", ",", " ", "1", "2", "世界", "\n"}));
  EXPECT_EQ(pieces_of("chameleon", "ab 1  c."), List({"ab", " ", "1", "  ", "c", "."}));
  EXPECT_EQ(pieces_of("youtu", "한국abc世界"), List({"한국", "abc", "世界"}));
  EXPECT_EQ(pieces_of("hy_v4", "a 1234"), pieces_of("deepseek-v3", "a 1234"));
  EXPECT_EQ(pieces_of("spark2_5", "a!\n\n12"), List({"a", "!", "\n", "\n", "1", "2"}));
  EXPECT_EQ(pieces_of("deepseek-v3", "a!\n\n12"), List({"a", "!\n\n", "12"}));
  for (const NamedPattern& named : named_patterns()) {
    List whole = pieces_of(named.name, "Hello, wörld's 12345  世界\n\t x");
    std::string joined;
    for (const std::string& piece : whole) joined += piece;
    EXPECT_EQ(joined, "Hello, wörld's 12345  世界\n\t x") << named.name;
    EXPECT_GT(whole.size(), 1u) << named.name;
  }
  EXPECT_FALSE(find_named_pattern("gemma4"));  // it leaves texts whole (sentencepiece_test.cpp)
}

TEST(ByteBpe, MergesAsPairs) {
  TemporaryFolder folder;
  auto json = SmallByteBpe().json();
  for (auto& merge : json["model"]["merges"]) {
    const auto text = merge.get<std::string>();
    merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
  }
  EXPECT_THAT(must_encode(*must_open(folder.write("tokenizer.json", json.dump())), "hello"), ElementsAre(259));
}

TEST(ByteBpe, SavedComesBackEqual) {
  TemporaryFolder folder, copy;
  auto tokenizer = small_byte_bpe(folder, kChatMl);
  ASSERT_TRUE(tokenizer->save(copy.path()));
  auto again = must_open(copy.path());
  ASSERT_TRUE(again);
  EXPECT_EQ(again->vocab_size(), tokenizer->vocab_size());
  EXPECT_EQ(again->bos(), tokenizer->bos());
  EXPECT_EQ(again->eos(), tokenizer->eos());
  EXPECT_EQ(again->chat_template(), tokenizer->chat_template());
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    const std::string text = random_text(random, 100);
    EXPECT_EQ(must_encode(*again, text), must_encode(*tokenizer, text));
  }
  const auto tables = tokenizer->tables();
  ASSERT_TRUE(tables) << tables.error().message;
  EXPECT_EQ(tables->model, "gpt2");
  EXPECT_EQ(tables->pre, "gpt-2");
  EXPECT_EQ(tables->tokens[260], "\u0120w");
  EXPECT_EQ(tables->merges[0], "h e");
  EXPECT_EQ(tables->types[268], 3);
}

struct Broken {
  std::string what;
  std::string name;  // of the file
  std::string text;
  std::string expected;  // fragment of the message
};

std::string with(const char* path, nlohmann::json value) {
  auto json = SmallByteBpe().json();
  json[nlohmann::json::json_pointer(path)] = std::move(value);
  return json.dump();
}

// The one of the two that is wrong is named.
TEST(Tokenizer, BrokenPairsOfFilesAreRefused) {
  TemporaryFolder folder;
  folder.write("merges.txt", "a b\n");
  folder.write("vocab.json", R"({"a":0,"b":0})");
  EXPECT_THAT(Tokenizer::open(folder.path()).error().message,
              AllOf(HasSubstr("vocab.json: "), HasSubstr("given twice"), Not(HasSubstr("merges.txt"))));
  folder.write("vocab.json", R"({"a":0,"b":1})");
  EXPECT_THAT(Tokenizer::open(folder.path()).error().message,
              AllOf(HasSubstr("merges.txt: "), HasSubstr("not in the vocabulary"), Not(HasSubstr("vocab.json"))));
}

TEST(Tokenizer, BrokenFilesAreRefused) {
  const std::string model("\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02", 16);
  const std::vector<Broken> cases = {
      {"no JSON", "tokenizer.json", "{\"model\":", "not a JSON object"},
      {"no model", "tokenizer.json", "{\"a\":1}", "no 'model'"},
      {"unknown model", "tokenizer.json", with("/model/type", "WordSmith"),
       "'WordSmith' is not supported; supported are BPE"},
      {"vocab is a list", "tokenizer.json", with("/model/vocab", {1}), "no object 'vocab'"},
      {"id is text", "tokenizer.json", with("/model/vocab/h", "x"), "the id of 'h' is no number"},
      {"id is huge", "tokenizer.json", with("/model/vocab/h", 1LL << 40), "the id of 'h' is no number"},
      {"id twice", "tokenizer.json", with("/model/vocab/h", 3), "token id 3 is given twice"},
      {"no merges", "tokenizer.json", with("/model/merges", nullptr), "no list 'merges'"},
      {"merge of one", "tokenizer.json", with("/model/merges/2", "he"), "merge 2 is not two tokens"},
      {"merge of unknown", "tokenizer.json", with("/model/merges/0", "q q"), "'qq' is not in the vocabulary"},
      {"bad pattern", "tokenizer.json",
       with("/pre_tokenizer",
            {{"type", "Sequence"},
             {"pretokenizers", {{{"type", "Split"}, {"behavior", "Isolated"}, {"pattern", {{"Regex", "(a"}}}}}}}),
       "compiling the pre-tokenizer's pattern '(a'"},
      {"odd pre-tokenizer", "tokenizer.json", with("/pre_tokenizer", {{"type", "OddPreTokenizer"}}),
       "'OddPreTokenizer' is not supported"},
      {"odd normalizer", "tokenizer.json", with("/normalizer", {{"type", "Uppercase"}}),
       "'Uppercase' is not supported"},
      {"added without id", "tokenizer.json", with("/added_tokens/0/id", nullptr), "added token 0 has no valid id"},
      {"cut-off model", "tokenizer.model", model.substr(0, 10), "cut off"},
      {"piece without text", "tokenizer.model", std::string("\x0a\x02\x18\x01", 4), "expected some text"},
      {"empty bin", "tok.bin", "", "expected the length of the longest token first"},
      {"cut-off bin", "tok.bin", std::string("\x04\0\0\0\0\0\0\0\x09\0\0\0ab", 14), "token 0 ends after the file"},
      {"nothing known", "notes.txt", "hello", "none of the known formats (GGUF"},
      {"GGUF cut off", "model.gguf", "GGUF\x03", "model.gguf"},
  };
  for (const Broken& broken : cases) {
    TemporaryFolder folder;
    const auto tokenizer = Tokenizer::open(folder.write(broken.name, broken.text));
    ASSERT_FALSE(tokenizer) << broken.what;
    EXPECT_THAT(tokenizer.error().message, HasSubstr(broken.expected)) << broken.what;
    EXPECT_THAT(tokenizer.error().message, HasSubstr(folder.file(broken.name))) << broken.what;
  }
  TemporaryFolder empty;
  EXPECT_THAT(Tokenizer::open(empty.path()).error().message, HasSubstr("holds none of tokenizer.json"));
  EXPECT_FALSE(Tokenizer::open(empty.path() + "/absent.json"));
}

}  // namespace
}  // namespace thimble
