#include "text/token_stream.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

// A token a byte; 256 is special.
class Bytes final : public Tokenizer {
 public:
  size_t most_bytes_per_token() const override { return 0; }
  Bytes() {
    for (int i = 0; i < 256; ++i) text_[static_cast<size_t>(i)] = static_cast<char>(i);
  }
  Result<void> encode(std::string_view text, const EncodeOptions&, std::vector<int32_t>& ids) override {
    for (char c : text) ids.push_back(static_cast<unsigned char>(c));
    return {};
  }
  Result<size_t> encode_part(std::string_view, const EncodeOptions&, std::vector<int32_t>&) override { return 0; }
  std::string_view bytes(int32_t id) const override {
    return std::string_view(text_).substr(static_cast<size_t>(id), 1);
  }
  std::string decode(std::span<const int32_t> ids) const override {
    std::string out;
    for (int32_t id : ids) out += bytes(id);
    return out;
  }
  int32_t vocab_size() const override { return 257; }
  bool is_special(int32_t id) const override { return id == 256; }
  std::optional<int32_t> find(std::string_view) const override { return std::nullopt; }
  std::optional<int32_t> first_special(std::string_view) const override { return std::nullopt; }
  Result<void> save(const std::string&) const override { return {}; }
  Result<TokenizerTables> tables() const override { return TokenizerTables(); }

 private:
  std::string text_ = std::string(257, '\0');
};

TEST(TokenStream, holds_a_character_until_it_is_whole) {
  Bytes tokenizer;
  const std::string text = "aé€😀z";
  TokenStream stream(tokenizer, {});
  std::vector<std::string> pieces;
  for (char c : text)
    if (const auto piece = stream.push(static_cast<unsigned char>(c)); !piece.empty()) pieces.emplace_back(piece);
  EXPECT_EQ(pieces, (std::vector<std::string>{"a", "é", "€", "😀", "z"}));
  EXPECT_EQ(stream.rest(), "");
}

TEST(TokenStream, gives_broken_bytes_out_at_the_end_or_when_nothing_can_mend_them) {
  Bytes tokenizer;
  TokenStream stream(tokenizer, {});
  EXPECT_EQ(stream.push(0xe2), "");
  EXPECT_EQ(stream.push('x'), "\xe2x");
  EXPECT_EQ(stream.push(0xf0), "");
  EXPECT_EQ(stream.push(0x9f), "");
  EXPECT_EQ(stream.rest(), "\xf0\x9f");
}

}  // namespace
}  // namespace thimble
