// Tokenizers against vectors made by others.
#include <gtest/gtest.h>

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

std::vector<int32_t> numbers(const std::string& line) {
  std::istringstream in(line);
  return {std::istream_iterator<int32_t>(in), {}};
}

TEST(Golden, Gpt2GgmlVectors) {
  NEED_SHARED_DATA(model, "models/ggml_vocab/ggml-vocab-gpt-2.gguf");
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
    EXPECT_EQ(tokenizer->decode(encode(*tokenizer, text)), text);
    at = end + kMark.size();
  }
  EXPECT_EQ(cases, 46);  // the separator after the last makes an empty 47th
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
  EXPECT_EQ(name(**format), "chatml");
  EXPECT_EQ(end_of_turn(**format, *tokenizer), std::vector<int32_t>{2});
  for (const auto& item : nlohmann::json::parse(*read_text_file(vectors))) {
    std::vector<Message> messages;
    for (const auto& message : item["messages"]) messages.push_back({message["role"], message["content"]});
    const auto text = item["text"].get<std::string>();
    EXPECT_EQ(render(**format, *tokenizer, messages, true).value(), text);
    std::vector<int32_t> ids;
    std::vector<uint8_t> trained;
    ASSERT_TRUE(encode_chat(**format, *tokenizer, messages, true, ids, trained));
    EXPECT_EQ(ids, encode(*tokenizer, text));
    std::vector<int32_t> words;
    for (size_t i = 0; i < ids.size(); ++i) {
      if (trained[i]) words.push_back(ids[i]);
    }
    EXPECT_EQ(tokenizer->decode(words), messages.size() > 2 ? "Hello!<|im_end|>" : "");
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

}  // namespace
}  // namespace thimble
