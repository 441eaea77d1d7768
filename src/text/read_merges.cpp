// GPT-2's pair of files: vocab.json {"token": id} and merges.txt, a merge a line.
#include <simdjson.h>

#include <filesystem>

#include "files/file.h"
#include "text/byte_bpe.h"
#include "text/readers.h"
#include "text/tokenizer_config.h"

namespace thimble {
namespace {

// The format marks no special tokens; those of its models are written <|like this|>.
TokenKind kind_of(std::string_view token) {
  const bool special = token.size() > 4 && token.starts_with("<|") && token.ends_with("|>");
  return special ? TokenKind::control : TokenKind::normal;
}

Result<void> read_vocab(const std::string& path, ByteBpeReader& reader) {
  const simdjson::padded_string text(TRY(read_text_file(path)));
  simdjson::dom::parser parser;
  simdjson::dom::object vocab;
  if (const auto error = parser.parse(text).get(vocab); error != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: not a JSON object: {}", path, simdjson::error_message(error));
  }
  for (const auto [token, value] : vocab) {
    int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) {
      return fail(ErrorCode::corrupt, "reading {}: the id of '{}' is no number from 0 to {}", path, token,
                  TokenTable::kMaxTokens - 1);
    }
    if (const auto added = reader.add_token(static_cast<int32_t>(id), token, kind_of(token)); !added)
      return in_file(path, added.error());
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_vocab_and_merges(const std::string& vocab, const std::string& merges) {
  ByteBpeReader reader;
  CHECK_OK(read_vocab(vocab, reader));
  reader.start_merges();
  const std::string text = TRY(read_text_file(merges));
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line(text.data() + at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty() && !(at == 0 && line.starts_with("#version"))) {
      if (const auto added = reader.add_merge(line); !added) return in_file(merges, added.error());
    }
    at = end + 1;
  }
  SpecialTokens specials;
  specials.build(reader.vocabulary.tokens);
  if (const int32_t id = specials.find("<|endoftext|>"); id >= 0) reader.vocabulary.bos = reader.vocabulary.eos = id;
  CHECK_OK(read_tokenizer_config(std::filesystem::path(vocab).parent_path().string(), reader.vocabulary));
  CHECK_OK(finish(reader.vocabulary, vocab));
  ByteBpeRules rules{TRY(PreTokenizer::make(TRY(find_named_pattern("gpt-2"))->patterns))};
  return make_byte_bpe(std::move(reader.vocabulary), std::move(rules));
}

}  // namespace thimble
