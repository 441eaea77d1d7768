// GPT-2's pair of files: vocab.json {"token": id} and merges.txt, a merge a line.
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>

#include "files/file.h"
#include "text/byte_bpe.h"
#include "text/parse_json.h"
#include "text/readers.h"
#include "text/tokenizer_config.h"

namespace thimble {
namespace {

// The format marks no special tokens; those of its models are written <|like this|>.
TokenKind kind_of(std::string_view token) {
  const bool special = token.size() > 4 && token.starts_with("<|") && token.ends_with("|>");
  return special ? TokenKind::control : TokenKind::normal;
}

Result<void> read_vocab(const std::string& path, std::span<const AddedToken> added, ByteBpeReader& reader) {
  const std::string text = TRY(read_text_file(path));
  simdjson::dom::parser parser;
  simdjson::dom::object vocab;
  if (const auto error = parse_json(parser, text).get(vocab); error != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: not a JSON object: {}", path, simdjson::error_message(error));
  }
  std::set<int64_t> known;
  for (const auto& token : added) known.insert(token.id);
  for (const auto [token, value] : vocab) {
    int64_t id = -1;
    if (value.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) {
      return fail(ErrorCode::corrupt, "reading {}: the id of '{}' is no number from 0 to {}", path, token,
                  TokenTable::kMaxTokens - 1);
    }
    if (known.contains(id)) continue;
    if (const auto done = reader.add_token(static_cast<int32_t>(id), token, kind_of(token)); !done)
      return in_file(path, done.error());
  }
  return {};
}

// What the class of a tokenizer in transformers does beyond its vocabulary; the files do not say it.
struct TokenizerClass {
  std::string_view name;     // without "Fast"
  std::string_view pattern;  // of find_named_pattern
  bool nfc, adds_bos;
};
constexpr std::array kClasses{
    TokenizerClass{"GPT2Tokenizer", "gpt-2", false, false},
    TokenizerClass{"Qwen2Tokenizer", "qwen2", true, false},
    TokenizerClass{"RobertaTokenizer", "gpt-2", false, true},
    TokenizerClass{"BartTokenizer", "gpt-2", false, true},
    TokenizerClass{"LongformerTokenizer", "gpt-2", false, true},
    TokenizerClass{"CodeGenTokenizer", "gpt-2", false, false},
    TokenizerClass{"WhisperTokenizer", "gpt-2", false, false},
};

Result<ByteBpeRules> rules_of_class(const std::string& folder, Vocabulary& vocabulary) {
  const TokenizerSettings settings = TRY(read_tokenizer_settings(folder));
  std::string_view name = settings.tokenizer_class;
  if (name.ends_with("Fast")) name.remove_suffix(4);
  const auto found = std::ranges::find(kClasses, name.empty() ? "GPT2Tokenizer" : name, &TokenizerClass::name);
  if (found == kClasses.end())
    return fail(
        ErrorCode::unsupported,
        "reading {}: the tokenizer_class '{}' in tokenizer_config.json is not known, and vocab.json and merges.txt "
        "do not say how it cuts words; save the tokenizer as tokenizer.json (transformers' save_pretrained does)",
        folder, settings.tokenizer_class);
  vocabulary.adds_bos = found->adds_bos;
  ByteBpeRules rules{TRY(PreTokenizer::make(TRY(find_named_pattern(found->pattern))->patterns))};
  rules.nfc = found->nfc;
  rules.prefix_space = settings.add_prefix_space.value_or(false);
  return rules;
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_vocab_and_merges(const std::string& vocab, const std::string& merges) {
  ByteBpeReader reader;
  const std::string folder = std::filesystem::path(vocab).parent_path().string();
  const std::vector<AddedToken> added = TRY(read_added_tokens(folder));
  CHECK_OK(add_tokens(added, reader.vocabulary));
  CHECK_OK(read_vocab(vocab, added, reader));
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
  ByteBpeRules rules = TRY(rules_of_class(folder, reader.vocabulary));
  CHECK_OK(read_tokenizer_config(folder, reader.vocabulary));
  CHECK_OK(finish(reader.vocabulary, vocab));
  return make_byte_bpe(std::move(reader.vocabulary), std::move(rules));
}

}  // namespace thimble
