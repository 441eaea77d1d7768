// Tokenizers against vectors made by others.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "files/file.h"
#include "shared_data.h"
#include "text/chat.h"
#include "text/dataset.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

std::vector<int32_t> encode(Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  std::vector<int32_t> ids;
  const auto done = tokenizer.encode(text, options, ids);
  EXPECT_TRUE(done) << done.error().message;
  return ids;
}

std::unique_ptr<Tokenizer> open(const std::string& path) {
  auto tokenizer = Tokenizer::open(path);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return nullptr;
  }
  return std::move(*tokenizer);
}

std::vector<int32_t> numbers(std::string line) {
  std::ranges::replace(line, ',', ' ');
  std::istringstream in(line);
  return {std::istream_iterator<int32_t>(in), {}};
}

void check_ggml_vectors(const std::string& model, bool comes_back) {
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  const std::string inputs = *read_text_file(model + ".inp");
  std::ifstream outputs(model + ".out");
  int cases = 0;
  for (size_t at = 0; at < inputs.size(); ++cases) {
    constexpr std::string_view kMark = "\n__ggml_vocab_test__\n";
    const size_t end = std::min(inputs.find(kMark, at), inputs.size());
    const std::string text = inputs.substr(at, end - at);
    std::string line;
    ASSERT_TRUE(std::getline(outputs, line));
    EXPECT_EQ(encode(*tokenizer, text), numbers(line)) << "case " << cases << ": " << text;
    if (comes_back) EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
    at = end + kMark.size();
  }
  EXPECT_EQ(cases, 46);  // the separator after the last makes an empty 47th
}

TEST(Golden, Gpt2GgmlVectors) {
  NEED_SHARED_DATA(model, "models/ggml_vocab/ggml-vocab-gpt-2.gguf");
  check_ggml_vectors(model, true);
}

// BERT's, uncased: what it makes of a text does not come back.
TEST(Golden, BertGgmlVectors) {
  NEED_SHARED_DATA(model, "models/ggml_vocab/ggml-vocab-bert-bge.gguf");
  check_ggml_vectors(model, false);
  auto tokenizer = open(model);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_EQ(tokenizer->decode(encode(*tokenizer, "Hello, unbelievable World!", {.bos = true})),
            "[CLS] hello, unbelievable world!");
}

TEST(Golden, SmolLm2Strings) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(vectors, "models/smollm2/tokens.json");
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  const auto cases = nlohmann::json::parse(*read_text_file(vectors));
  EXPECT_EQ(cases.size(), 30u);
  for (const auto& item : cases) {
    const auto text = item["text"].get<std::string>();
    EXPECT_EQ(encode(*tokenizer, text), item["ids"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
  }
}

TEST(Golden, SmolLm2WikiText) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  const std::string whole = *read_text_file(text);
  const auto ids = encode(*tokenizer, whole);
  EXPECT_EQ(ids.size(), 273868u);
  EXPECT_EQ(tokenizer->decode(ids), whole);
}

TEST(Golden, SmolLm2Chat) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(vectors, "models/smollm2/chat.json");
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  const auto format = chat_format(*tokenizer);
  ASSERT_TRUE(format) << format.error().message;
  // With <reponame>, at which llama.cpp ends too.
  EXPECT_EQ((*format)->ends(), std::vector<int32_t>({2, 0, 4}));
  for (const auto& item : nlohmann::json::parse(*read_text_file(vectors))) {
    std::vector<Message> messages;
    for (const auto& message : item["messages"]) messages.push_back({message["role"], message["content"]});
    const auto text = item["text"].get<std::string>();
    EXPECT_EQ(render(**format, messages, true).value(), text);
    std::vector<int32_t> ids;
    std::vector<uint8_t> trained;
    ASSERT_TRUE(encode_chat(**format, *tokenizer, messages, {.generation_prompt = true}, ids, trained));
    EXPECT_EQ(ids, encode(*tokenizer, text));
    if (messages.back().role != "assistant") messages.pop_back();
    if (messages.size() < 2) continue;
    ids.clear(), trained.clear();
    ASSERT_TRUE(encode_chat(**format, *tokenizer, messages, {}, ids, trained));
    std::vector<int32_t> words;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (trained[i]) words.push_back(ids[i]);
    }
    EXPECT_EQ(tokenizer->decode(words), "Hello!<|im_end|>");
  }
}

TEST(Golden, TwoFilesOfGpt2AreOneTokenizer) {
  NEED_SHARED_DATA(model, "models/ggml_vocab/ggml-vocab-gpt-2.gguf");
  NEED_SHARED_DATA(folder, "models/gpt2_bpe");
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  const std::string whole = *read_text_file(text);
  EXPECT_EQ(encode(*open(model), whole), encode(*open(folder), whole));
}

// Data sets in the shapes that people publish: usable examples, and lines that are not.
TEST(Golden, PublishedDataSets) {
  struct Published {
    const char* file;
    int64_t examples, bad;
  };
  NEED_SMOLLM2(model);
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  for (const auto& [file, examples, bad] :
       {Published{"wikisql_mlx/train.jsonl", 1000, 0}, Published{"instruction_rasbt/instruction-data.json", 1100, 0},
        Published{"gsm8k/train.jsonl", 7473, 0}, Published{"llamafactory_demo/identity.json", 91, 0},
        Published{"wiki_c4_demo/c4_demo.jsonl", 300, 0}}) {
    NEED_SHARED_DATA(path, file);
    auto dataset = Dataset::open(path, *tokenizer, {.context = 1 << 20});
    ASSERT_TRUE(dataset) << dataset.error().message;
    EXPECT_EQ((*dataset)->size(), examples) << file;
    EXPECT_EQ((*dataset)->report().bad_lines, bad)
        << file << ": " << testing::PrintToString((*dataset)->report().first_errors);
  }
}

TEST(Golden, SmolLm2WikiTextWindows) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  auto dataset = Dataset::open(text, *tokenizer, {.context = 512});
  ASSERT_TRUE(dataset) << dataset.error().message;
  EXPECT_EQ((*dataset)->size(), 534);
  EXPECT_EQ((*dataset)->report().dropped_tokens, 460);
  const auto ids = encode(*tokenizer, *read_text_file(text));
  Example example;
  for (int64_t i : {533, 0, 1, 200, 2, 201, 300}) {
    ASSERT_TRUE((*dataset)->read(i, example));
    EXPECT_EQ(example.ids, std::vector<int32_t>(ids.begin() + i * 512, ids.begin() + (i + 1) * 512));
  }
}

// Literal \n, \t, \r, and \s for a space.
std::string unescaped(std::string_view line) {
  std::string text;
  for (size_t i = 0; i < line.size(); ++i) {
    const char next = line[i] == '\\' && i + 1 < line.size() ? line[i + 1] : '\0';
    const auto kind = std::string_view("ntrs").find(next);
    const bool escape = next != '\0' && kind != std::string_view::npos;
    text += escape ? "\n\t\r "[kind] : line[i];
    i += escape ? 1 : 0;
  }
  return text;
}

void check_small_vectors(Tokenizer& tokenizer, const std::string& inputs, const std::string& outputs,
                         EncodeOptions options) {
  std::ifstream in(inputs), out(outputs);
  std::string line, ids;
  int cases = 0;
  for (; std::getline(out, ids); ++cases) {
    ASSERT_TRUE(std::getline(in, line));
    const std::string text = unescaped(line);
    EXPECT_EQ(encode(tokenizer, text, options), numbers(ids)) << "case " << cases << ": " << text;
    EXPECT_EQ(tokenizer.decode(encode(tokenizer, text, options)), text);
  }
  EXPECT_EQ(cases, 20);
}

TEST(Golden, SmallVectorsGpt2) {
  NEED_SHARED_DATA(model, "models/ggml_vocab/ggml-vocab-gpt-2.gguf");
  NEED_SHARED_DATA(inputs, "models/tokenizer_vectors/small_input.txt");
  NEED_SHARED_DATA(outputs, "models/tokenizer_vectors/tokenizers/small_tokens_gpt2.txt");
  check_small_vectors(*open(model), inputs, outputs, {});
}

TEST(Golden, SmallVectorsMistral) {
  NEED_SHARED_DATA(model, "models/tokenizer_vectors/sentencepiece/mistral01.model");
  NEED_SHARED_DATA(inputs, "models/tokenizer_vectors/small_input.txt");
  NEED_SHARED_DATA(outputs, "models/tokenizer_vectors/sentencepiece/small_tokens_mistral01.txt");
  // SentencePiece itself does not look for control tokens in a text.
  check_small_vectors(*open(model), inputs, outputs, {.special = false});
}

TEST(Golden, Stories260K) {
  NEED_SHARED_DATA(model, "models/stories260K/tok512.bin");
  NEED_SHARED_DATA(text, "models/stories260K/golden_text1.txt");
  NEED_SHARED_DATA(table, "models/stories260K/golden_nll1.tsv");
  auto tokenizer = open(model);
  ASSERT_TRUE(tokenizer);
  std::ifstream in(table);
  std::string line;
  std::getline(in, line);
  std::vector<int32_t> expected;
  int32_t position, token, next = -1;
  while (std::getline(in, line)) {
    std::istringstream fields(line);
    if (fields >> position >> token >> next) expected.push_back(token);
  }
  expected.push_back(next);
  const std::string whole = *read_text_file(text);
  auto ids = encode(*tokenizer, whole, {.bos = true});
  EXPECT_EQ(tokenizer->decode(std::span(ids).subspan(1)), whole);
  ids.resize(std::min(ids.size(), expected.size()));
  EXPECT_EQ(ids, expected);
}

}  // namespace
}  // namespace thimble
