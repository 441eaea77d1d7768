#include "text/sentencepiece.h"

#include <gmock/gmock.h>

#include <cstring>
#include <random>

#include "files/gguf_writer.h"
#include "small_tokenizer.h"

namespace thimble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Piece {
  std::string text;
  float score;
};

const std::vector<Piece> kPieces = {{" ", -1},  {"a", -2},   {"b", -3},     {"ab", -4},
                                    {" a", -5}, {" ab", -6}, {"\u00e9", -7}};

// llama2.c's file: three special tokens, the 256 bytes, then the pieces.
std::string llama2c_file(const std::vector<Piece>& pieces) {
  std::string file;
  const auto put = [&](auto value) { file.append(reinterpret_cast<const char*>(&value), sizeof(value)); };
  const auto token = [&](const std::string& text, float score) {
    put(score);
    put(static_cast<int32_t>(text.size()));
    file += text;
  };
  put(int32_t{16});
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) token(special, 0);
  for (int byte = 0; byte < 256; ++byte) token(fmt::format("<0x{:02X}>", byte), 0);
  for (const Piece& piece : pieces) token(piece.text, piece.score);
  return file;
}

std::unique_ptr<Tokenizer> unigram(bool bytes) {
  SentencePieceReader reader;
  reader.rules.unigram = true;
  EXPECT_TRUE(reader.add_piece(0, "<unk>", 0, TokenKind::unknown));
  int32_t id = 1;
  for (const Piece& piece : kPieces)
    EXPECT_TRUE(reader.add_piece(id++, blocks_of_spaces(piece.text), piece.score, TokenKind::normal));
  for (int byte = 0; bytes && byte < 256; ++byte) {
    EXPECT_TRUE(reader.add_piece(id++, fmt::format("<0x{:02X}>", byte), 0, TokenKind::byte));
  }
  EXPECT_TRUE(finish(reader.vocabulary, "memory"));
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

TEST(SentencePiece, MergesByScore) {
  TemporaryFolder folder;
  auto tokenizer = must_open(folder.write("tok.bin", llama2c_file(kPieces)));
  ASSERT_TRUE(tokenizer);
  // " ab": "ab" (-4) is merged before " a" (-5), then " ab".
  EXPECT_THAT(must_encode(*tokenizer, "ab"), ElementsAre(264));
  EXPECT_THAT(must_encode(*tokenizer, "ab", {.bos = true}), ElementsAre(1, 264));
  EXPECT_THAT(must_encode(*tokenizer, "ab", {.continued = true}), ElementsAre(262));
  EXPECT_THAT(must_encode(*tokenizer, "\u00e9z"), ElementsAre(259, 265, 3 + 'z'));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{1, 264, 264}), "<s>ab ab");
}

// Gemma's vocabulary in small: a GGUF file, by rank, and the tokenizer.json of the same model.
struct Ranked {
  std::vector<std::string> tokens = {"<pad>", "<eos>", "<bos>",   "<unk>",    "\u2581", "a",           "b",
                                     "\n",    "ab",    "\u2581a", "\u2581ab", "\n\n",   "\u2581\u2581"};
  std::vector<std::string> merges = {"a b", "\u2581 a", "\u2581 ab", "\n \n", "\u2581 \u2581"};
  int32_t bytes = 0;  // the first of 256

  Ranked() {
    bytes = static_cast<int32_t>(tokens.size());
    for (int byte = 0; byte < 256; ++byte) tokens.push_back(fmt::format("<0x{:02X}>", byte));
  }
  std::string gguf(const TemporaryFolder& folder, const std::string& model, const std::string& pre,
                   std::optional<bool> adds_bos = true) const {
    GgufWriter writer;
    writer.add_string("tokenizer.ggml.model", model);
    if (!pre.empty()) writer.add_string("tokenizer.ggml.pre", pre);
    StringList list, pairs;
    std::vector<int32_t> types(tokens.size(), 1);
    for (const std::string& token : tokens) list.push_back(token);
    for (const std::string& merge : merges) pairs.push_back(merge);
    for (size_t id = 0; id < 4; ++id) types[id] = 3;
    for (size_t id = static_cast<size_t>(bytes); id < tokens.size(); ++id) types[id] = 6;
    writer.add_strings("tokenizer.ggml.tokens", list);
    writer.add_integers("tokenizer.ggml.token_type", types);
    writer.add_strings("tokenizer.ggml.merges", pairs);
    writer.add_integer("tokenizer.ggml.bos_token_id", uint32_t{2});
    writer.add_integer("tokenizer.ggml.eos_token_id", uint32_t{1});
    if (adds_bos) writer.add_bool("tokenizer.ggml.add_bos_token", *adds_bos);
    const std::string path = folder.file("ranked.gguf");
    EXPECT_TRUE(writer.start(path));
    EXPECT_TRUE(writer.finish());
    return path;
  }
  nlohmann::json json() const {
    nlohmann::json vocab, added = nlohmann::json::array();
    for (size_t id = 0; id < tokens.size(); ++id) vocab[tokens[id]] = id;
    for (size_t id = 0; id < 4; ++id) added.push_back({{"id", id}, {"content", tokens[id]}, {"special", true}});
    return {{"model",
             {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}, {"byte_fallback", true}, {"unk_token", "<unk>"}}},
            {"added_tokens", added},
            {"normalizer", {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}};
  }
};

TEST(SentencePiece, GgufByRankIsTheModelsOwn) {
  const Ranked ranked;
  TemporaryFolder folder;
  auto own = must_open(folder.write("tokenizer.json", ranked.json().dump()));
  for (const auto& [model, pre] :
       {std::pair{"gemma4", ""}, {"gpt2", "gemma4"}, {"gpt2", "granite-embed-multi-311m"}, {"gpt2", "sarvam-moe"}}) {
    SCOPED_TRACE(pre);
    auto tokenizer = must_open(ranked.gguf(folder, model, pre));
    ASSERT_TRUE(tokenizer);
    EXPECT_TRUE(tokenizer->adds_bos());
    EXPECT_THAT(must_encode(*tokenizer, "ab ab\n\nb"), ElementsAre(8, 10, 11, 6));
    EXPECT_THAT(must_encode(*tokenizer, "\u00e9"), ElementsAre(ranked.bytes + 0xc3, ranked.bytes + 0xa9));
    std::mt19937 random(5);
    for (int round = 0; round < 100; ++round) {
      std::string text;
      for (size_t i = random() % 30; i > 0; --i) text += "ab  \nz"[random() % 6];
      ASSERT_EQ(must_encode(*tokenizer, text), must_encode(*own, text)) << text;
      ASSERT_EQ(tokenizer->decode(must_encode(*tokenizer, text)), text);
    }
  }
  // The first conversions said that gemma4 begins without its token.
  EXPECT_TRUE(must_open(ranked.gguf(folder, "gemma4", "", false))->adds_bos());
  EXPECT_FALSE(must_open(ranked.gguf(folder, "gpt2", "sarvam-moe", false))->adds_bos());
}

// A text that is read in parts may be cut right behind one.
TEST(SentencePiece, TextBehindASymbolOfTheUsersBeginsAnew) {
  SentencePieceReader reader;
  reader.rules.unigram = reader.rules.remove_extra_spaces = true;
  EXPECT_TRUE(reader.add_piece(0, "<unk>", 0, TokenKind::unknown));
  EXPECT_TRUE(reader.add_piece(1, "xy", 0, TokenKind::user_defined));
  int32_t id = 2;
  for (const Piece& piece : kPieces)
    EXPECT_TRUE(reader.add_piece(id++, blocks_of_spaces(piece.text), piece.score, TokenKind::normal));
  ASSERT_TRUE(finish(reader.vocabulary, "memory"));
  const auto tokenizer = make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
  for (const std::string text : {"a xy ab", "xy ab ab", "xyxy  a", "axyab a"})
    for (size_t chunk = 1; chunk < text.size(); ++chunk)
      EXPECT_EQ(encode_in_parts(*tokenizer, text, chunk), must_encode(*tokenizer, text)) << text << chunk;
}

// A tokenizer.model without a normalisation table: the pieces, then the trainer's and the normalizer's settings.
std::string model_file(bool unigram, const std::vector<std::pair<std::string, TokenKind>>& pieces) {
  const auto field = [](int number, const std::string& bytes) {
    return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(bytes.size())} + bytes;
  };
  const auto varint = [](int number, char value) { return std::string{static_cast<char>(number << 3), value}; };
  std::string file;
  float score = 0;
  for (const auto& [text, kind] : pieces) {
    std::string bytes(sizeof(score), '\0');
    std::memcpy(bytes.data(), &score, sizeof(score));
    file += field(1, field(1, text) + std::string(1, 2 << 3 | 5) + bytes + varint(3, static_cast<char>(kind)));
    score -= 1;
  }
  return file + field(2, varint(3, unigram ? 1 : 2)) + field(3, varint(3, 1));
}

// The ids are those of sentencepiece 0.2.3 (PyPI) with the same file.
TEST(SentencePiece, ModelFilesAsSentencepieceReadsThem) {
  using enum TokenKind;
  const std::vector<std::pair<std::string, TokenKind>> pieces = {{"<unk>", unknown},
                                                                 {"<s>", control},
                                                                 {"</s>", control},
                                                                 {"<x>", user_defined},
                                                                 {"\u2581\u2581", user_defined},
                                                                 {"a b", user_defined},
                                                                 {"bc", user_defined},
                                                                 {"\u2581", normal},
                                                                 {"a", normal},
                                                                 {"b", normal},
                                                                 {"c", normal},
                                                                 {"\u2581a", normal},
                                                                 {"ab", normal},
                                                                 {"abc", normal}};
  struct Case {
    const char* text;
    std::vector<int32_t> bpe, unigram;
  };
  const std::vector<Case> cases = {
      {"<x>", {7, 3}, {7, 3}},
      {"<x>a", {7, 3, 8}, {7, 3, 8}},
      {"a<x>a", {11, 3, 8}, {11, 3, 8}},
      {"a <x> a", {11, 7, 3, 11}, {11, 7, 3, 11}},
      {"\u2581", {}, {}},
      {"a\u2581", {11}, {11}},
      {"\u2581 a", {4, 11}, {4, 11}},
      {"a\u2581 a", {11, 4, 8}, {11, 4, 8}},
      {" a  a ", {11, 11}, {11, 11}},
      {"a b", {11, 7, 9}, {11, 7, 9}},
      {"aa ba", {11, 8, 7, 9, 8}, {11, 8, 7, 9, 8}},
      {"bca", {7, 6, 8}, {7, 6, 8}},
      {"abc", {11, 6}, {11, 6}},
      {"abcbc", {11, 6, 6}, {11, 6, 6}},
      {"a\u2581\u2581"
       "a",
       {11, 4, 8},
       {11, 4, 8}},
      {"  ", {}, {}},
      {"\u2581\u2581", {}, {}},
  };
  TemporaryFolder folder;
  for (const bool unigram : {false, true}) {
    const auto tokenizer = must_open(folder.write("tokenizer.model", model_file(unigram, pieces)));
    ASSERT_TRUE(tokenizer);
    for (const Case& one : cases) {
      SCOPED_TRACE(fmt::format("'{}' {}", one.text, unigram));
      EXPECT_EQ(must_encode(*tokenizer, one.text), unigram ? one.unigram : one.bpe);
      for (size_t chunk = 1; chunk < std::string(one.text).size(); ++chunk)
        EXPECT_EQ(encode_in_parts(*tokenizer, one.text, chunk), unigram ? one.unigram : one.bpe) << chunk;
    }
    EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{7, 3, 11, 3, 8}), "<x> a<x>a");
    EXPECT_EQ(tokenizer->find("<x>"), 3);
    EXPECT_FALSE(tokenizer->is_apart(3));
  }
  // Listed as an added token a symbol stands apart, as in transformers.
  folder.write("added_tokens.json", R"({"<x>":3})");
  const auto listed = must_open(folder.write("tokenizer.model", model_file(true, pieces)));
  ASSERT_TRUE(listed);
  EXPECT_TRUE(listed->is_apart(3));
  EXPECT_THAT(must_encode(*listed, "<x>a"), ElementsAre(3, 11));
}

// Pieces that are unused are merged on the way to others, and are else what they were merged of; one of a character is
// none. The ids are those of sentencepiece 0.2.3 (PyPI) with the same file.
TEST(SentencePiece, UnusedPiecesAreTakenApart) {
  using enum TokenKind;
  const std::vector<std::pair<std::string, TokenKind>> pieces = {
      {"<unk>", unknown}, {"<s>", control}, {"</s>", control}, {"\u2581", normal},  {"a", normal},
      {"b", normal},      {"c", normal},    {"ab", unused},    {"abc", normal},     {"\u2581a", unused},
      {"d", unused},      {"cc", unused},   {"ccab", normal},  {"\u2581ab", unused}};
  const std::vector<std::pair<const char*, std::vector<int32_t>>> cases = {
      {"a", {3, 4}},          {"ab", {3, 4, 5}},
      {"abc", {3, 8}},        {"ababc", {3, 4, 5, 8}},
      {"cab", {3, 6, 4, 5}},  {"ccab", {3, 12}},
      {"cc", {3, 6, 6}},      {"d", {3, 0}},
      {"adb", {3, 4, 0, 5}},  {"aba cc", {3, 4, 5, 4, 3, 6, 6}},
      {"xx y", {3, 0, 3, 0}}, {"x ab", {3, 0, 3, 4, 5}}};
  TemporaryFolder folder;
  for (const bool unigram : {false, true}) {
    const auto tokenizer = must_open(folder.write("tokenizer.model", model_file(unigram, pieces)));
    ASSERT_TRUE(tokenizer);
    for (const auto& [text, ids] : cases) {
      SCOPED_TRACE(fmt::format("'{}' {}", text, unigram));
      EXPECT_EQ(must_encode(*tokenizer, text), ids);
    }
  }
}

// A space is U+2581 in a file: where that is no piece, its three bytes are.
TEST(SentencePiece, ASpaceThatIsNoPieceIsTheBytesOfItsMark) {
  SentencePieceReader reader;
  EXPECT_TRUE(reader.add_piece(0, "<unk>", 0, TokenKind::unknown));
  EXPECT_TRUE(reader.add_piece(1, "a", 0, TokenKind::normal));
  for (int byte = 0; byte < 256; ++byte)
    EXPECT_TRUE(reader.add_piece(2 + byte, fmt::format("<0x{:02X}>", byte), 0, TokenKind::byte));
  EXPECT_TRUE(finish(reader.vocabulary, "memory"));
  const auto tokenizer = make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
  EXPECT_THAT(must_encode(*tokenizer, "a"), ElementsAre(2 + 0xe2, 2 + 0x96, 2 + 0x81, 1));
}

// A text that is read in parts may be cut behind a character that no piece is for; what follows does not begin anew.
TEST(SentencePiece, TextBehindAnUnknownCharacterGoesOn) {
  const auto made = [](const std::vector<std::string>& pieces) {
    SentencePieceReader reader;
    reader.rules.unigram = true;
    EXPECT_TRUE(reader.add_piece(0, "<unk>", 0, TokenKind::unknown));
    reader.vocabulary.unknown = 0;
    int32_t id = 1;
    for (const std::string& piece : pieces) {
      EXPECT_TRUE(reader.add_piece(id, piece, static_cast<float>(-id), TokenKind::normal));
      ++id;
    }
    EXPECT_TRUE(finish(reader.vocabulary, "memory"));
    return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
  };
  const auto in_parts = [](Tokenizer& tokenizer, std::string_view text, const std::vector<int32_t>& ids) {
    EXPECT_EQ(must_encode(tokenizer, text), ids);
    for (size_t chunk = 1; chunk < text.size(); ++chunk)
      EXPECT_EQ(encode_in_parts(tokenizer, text, chunk), ids) << chunk;
  };
  const auto words = made({"\u2581", "a", "\u2581a"});
  in_parts(*words, "a\u00a7 a", {3, 0, 3});
  in_parts(*words, "a \u00a7 \u00a7 aa", {3, 1, 0, 1, 0, 3, 2});
  EXPECT_FALSE(words->ends_apart("a\u00a7", must_encode(*words, "a\u00a7")));
  EXPECT_TRUE(words->ends_apart("a<unk>", must_encode(*words, "a<unk>")));
  // Where spaces are unknown, too, a run of them with others is one token.
  const auto letters = made({"a"});
  in_parts(*letters, "a \u00a7 \u00a7 aa", {0, 1, 0, 1, 1});
}

TEST(SentencePiece, AnyBytesComeBack) {
  TemporaryFolder folder;
  auto bpe = must_open(folder.write("tok.bin", llama2c_file(kPieces)));
  auto viterbi = unigram(true);
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    std::string text;
    for (size_t i = random() % 100; i > 0; --i)
      text += random() % 4 == 0 ? static_cast<char>(random()) : "  ab"[random() % 4];
    for (Tokenizer* tokenizer : {bpe.get(), viterbi.get()}) {
      const auto ids = must_encode(*tokenizer, text);
      ASSERT_EQ(tokenizer->decode(ids), text);
      ASSERT_EQ(encode_in_parts(*tokenizer, text, 1 + random() % 32), ids);
    }
  }
}

TEST(SentencePiece, UnigramTakesTheBestPath) {
  auto tokenizer = unigram(true);
  // " " and "ab" sum to -5, " ab" alone is -6.
  EXPECT_THAT(must_encode(*tokenizer, "ab"), ElementsAre(1, 4));
  EXPECT_THAT(must_encode(*tokenizer, "ba"), ElementsAre(1, 3, 2));
}

// The sum of a long text's scores is large, and its paths still differ by little: as sentencepiece 0.2.3, in f64.
TEST(SentencePiece, UnigramKeepsNearTiesApartInLongTexts) {
  SentencePieceReader reader;
  reader.rules.unigram = true;
  EXPECT_TRUE(reader.add_piece(0, "<unk>", 0, TokenKind::unknown));
  int32_t id = 1;
  for (const auto& [piece, score] :
       {std::pair{"a", -1.0f}, {"b", -0.99f}, {"ab", -2.0f}, {"x", -900.0f}, {"\u2581", -1.0f}})
    EXPECT_TRUE(reader.add_piece(id++, piece, score, TokenKind::normal));
  EXPECT_TRUE(finish(reader.vocabulary, "memory"));
  const auto tokenizer = make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
  for (const size_t before : {size_t{0}, size_t{20000}}) {
    const std::vector<int32_t> ids = must_encode(*tokenizer, std::string(before, 'x') + "ab");
    ASSERT_GE(ids.size(), 2u);
    EXPECT_THAT(std::vector<int32_t>(ids.end() - 2, ids.end()), ElementsAre(1, 2)) << before;
  }
}

TEST(SentencePiece, HostileTextIsFast) {
  TemporaryFolder folder;
  auto bpe = must_open(folder.write("tok.bin", llama2c_file(kPieces)));
  auto viterbi = unigram(true);
  for (const char letter : {'a', ' ', 'x', '\xff'}) {
    const std::string text(1 << 20, letter);
    EXPECT_EQ(bpe->decode(must_encode(*bpe, text)), text);
    EXPECT_EQ(viterbi->decode(must_encode(*viterbi, text)), text);
  }
}

TEST(SentencePiece, WithoutBytesAMissingOneIsNamed) {
  auto tokenizer = unigram(false);
  std::vector<int32_t> ids;
  const auto done = tokenizer->encode("ab z", {}, ids);
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("byte 0x7A at offset 3"));
}

TEST(SentencePiece, SavedComesBackEqual) {
  TemporaryFolder folder;
  auto bpe = must_open(folder.write("tok.bin", llama2c_file(kPieces)));
  auto viterbi = unigram(true);
  for (Tokenizer* tokenizer : {bpe.get(), viterbi.get()}) {
    TemporaryFolder copy;
    ASSERT_TRUE(tokenizer->save(copy.path()));
    auto again = must_open(copy.path());
    ASSERT_TRUE(again);
    for (const char* text : {"ab", " ab  ba", "\u00e9 z\n", "", "aabbab abab  "}) {
      EXPECT_EQ(must_encode(*again, text), must_encode(*tokenizer, text)) << text;
    }
    EXPECT_EQ(again->bos(), tokenizer->bos());
    ASSERT_TRUE(tokenizer->tables());
  }
  EXPECT_EQ(bpe->tables()->tokens[264], "\u2581ab");
}

TEST(Charsmap, HostileTablesAreRefusedOrHarmless) {
  EXPECT_FALSE(Charsmap::parse("abc"));
  EXPECT_FALSE(Charsmap::parse(std::string("\xff\xff\xff\x7f....", 8)));
  std::mt19937 random(5);
  for (int round = 0; round < 200; ++round) {
    std::string bytes(4 + 64 + 8, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const uint32_t size = 64;
    std::memcpy(bytes.data(), &size, 4);
    bytes.back() = '\0';
    const auto map = Charsmap::parse(bytes);
    ASSERT_TRUE(map);
    std::string out;
    map->normalise("some text \xff\xe2", out);
    EXPECT_EQ(map->bytes(), bytes);
  }
}

}  // namespace
}  // namespace thimble
