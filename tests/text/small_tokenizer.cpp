#include "text/small_tokenizer.h"

#include "text/byte_characters.h"

namespace thimble {

std::string characters(std::string_view bytes) {
  std::string out;
  append_characters_of_bytes(bytes, out);
  return out;
}

nlohmann::json SmallByteBpe::json() const {
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

std::unique_ptr<Tokenizer> must_open(const std::string& path) {
  auto tokenizer = Tokenizer::open(path);
  if (!tokenizer) {
    ADD_FAILURE() << tokenizer.error().message;
    return nullptr;
  }
  return std::move(*tokenizer);
}

std::unique_ptr<Tokenizer> small_byte_bpe(const TemporaryFolder& folder, const std::string& chat_template,
                                          const SmallByteBpe& small) {
  const std::string path = folder.write("tokenizer.json", small.json().dump());
  folder.write(
      "tokenizer_config.json",
      nlohmann::json{{"chat_template", chat_template}, {"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}}
          .dump());
  return must_open(path);
}

std::vector<int32_t> must_encode(Tokenizer& tokenizer, std::string_view text, EncodeOptions options) {
  std::vector<int32_t> ids;
  const auto done = tokenizer.encode(text, options, ids);
  EXPECT_TRUE(done) << done.error().message;
  return ids;
}

std::vector<int32_t> encode_in_parts(Tokenizer& tokenizer, std::string_view text, size_t chunk) {
  std::vector<int32_t> ids;
  for (size_t at = 0, bytes = chunk; at < text.size();) {
    const EncodeOptions options{.continued = at > 0, .after_special = tokenizer.ends_apart(text.substr(0, at), ids)};
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

}  // namespace thimble
