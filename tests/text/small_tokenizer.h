// Small tokenizers made on the spot.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "files/file.h"
#include "temporary_folder.h"
#include "text/byte_characters.h"
#include "text/tokenizer.h"

namespace thimble {

inline std::string characters(std::string_view bytes) {
  std::string out;
  append_characters_of_bytes(bytes, out);
  return out;
}

// Byte-level BPE: ids 0..255 are the bytes, then the merges' results, then the special tokens.
struct SmallByteBpe {
  std::vector<std::pair<std::string, std::string>> merges = {{"h", "e"},   {"l", "l"}, {"he", "ll"},    {"hell", "o"},
                                                             {" ", "w"},   {"a", "a"}, {"aa", "aa"},    {" ", " "},
                                                             {"\n", "\n"}, {"1", "2"}, {"\xc3", "\xa9"}};
  std::vector<std::string> specials = {"<|im_start|>", "<|im_end|>", "<|im_end|>>", "<s>", "</s>"};
  nlohmann::json pre_tokenizer = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};

  nlohmann::json json() const {
    nlohmann::json vocab, list = nlohmann::json::array(), added = nlohmann::json::array();
    int id = 0;
    for (int byte = 0; byte < 256; ++byte) vocab[characters(std::string(1, static_cast<char>(byte)))] = id++;
    for (const auto& [left, right] : merges) {
      vocab[characters(left + right)] = id++;
      list.push_back(characters(left) + " " + characters(right));
    }
    for (const auto& text : specials) added.push_back({{"id", id++}, {"content", text}, {"special", true}});
    return {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}},
            {"added_tokens", added},
            {"pre_tokenizer", pre_tokenizer},
            {"decoder", {{"type", "ByteLevel"}}}};
  }
};

inline std::unique_ptr<Tokenizer> must_open(const std::string& path) {
  auto tokenizer = Tokenizer::open(path);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return nullptr;
  }
  return std::move(*tokenizer);
}

inline std::unique_ptr<Tokenizer> small_byte_bpe(const TemporaryFolder& folder, const std::string& chat_template = "",
                                                 const SmallByteBpe& small = {}) {
  const std::string path = folder.write("tokenizer.json", small.json().dump());
  folder.write(
      "tokenizer_config.json",
      nlohmann::json{{"chat_template", chat_template}, {"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}}
          .dump());
  return must_open(path);
}

inline std::vector<int32_t> must_encode(Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  std::vector<int32_t> ids;
  const auto done = tokenizer.encode(text, options, ids);
  EXPECT_TRUE(done) << done.error().message;
  return ids;
}

// The ids by encode_part over pieces of `chunk` bytes.
inline std::vector<int32_t> encode_in_parts(Tokenizer& tokenizer, std::string_view text, size_t chunk) {
  std::vector<int32_t> ids;
  for (size_t at = 0, bytes = chunk; at < text.size();) {
    const EncodeOptions options{.continued = at > 0, .after_special = !ids.empty() && tokenizer.is_special(ids.back())};
    if (at + bytes >= text.size()) {
      EXPECT_TRUE(tokenizer.encode(text.substr(at), options, ids));
      break;
    }
    const auto done = tokenizer.encode_part(text.substr(at, bytes), options, ids);
    EXPECT_TRUE(done) << done.error().message;
    bytes = *done == 0 ? bytes * 2 : chunk;
    at += *done;
  }
  return ids;
}

inline const std::string kChatMl =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nBe good.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

}  // namespace thimble
