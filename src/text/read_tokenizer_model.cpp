// SentencePiece's tokenizer.model: a protocol buffer, of which these fields are read:
//
//   ModelProto     1 pieces (SentencePiece, repeated)  2 trainer_spec  3 normalizer_spec
//   SentencePiece  1 piece (string)  2 score (float)  3 type (enum, GGUF's numbers)
//   TrainerSpec    3 model_type (1 unigram, 2 bpe, 3 word, 4 char)  24 treat_whitespace_as_suffix
//                  40, 41, 42, 43 ids of unknown, beginning, end, padding (defaults 0, 1, 2, -1)
//   NormalizerSpec 2 precompiled_charsmap  3 add_dummy_prefix  4 remove_extra_whitespaces  5 escape_whitespaces
//                  (all three true by default)
#include <bit>
#include <cstring>
#include <filesystem>

#include "files/file.h"
#include "text/readers.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_config.h"

namespace thimble {
namespace {

// Reads the fields of one message. Every length is checked against what is left.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : rest_(bytes) {}

  uint64_t number = 0;     // the field's
  uint64_t value = 0;      // of a varint or a fixed-size field
  std::string_view bytes;  // of a length-delimited one
  bool broken() const { return broken_; }

  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    number = tag >> 3;
    value = 0;
    bytes = {};
    switch (tag & 7) {
      case 0:
        value = varint();
        break;
      case 1:
        value = fixed(8);
        break;
      case 2:
        bytes = take(varint());
        break;
      case 5:
        value = fixed(4);
        break;
      default:
        broken_ = true;
    }
    return !broken_;
  }

 private:
  uint64_t varint() {
    uint64_t result = 0;
    for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_[0]);
      rest_.remove_prefix(1);
      result |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return result;
    }
    broken_ = true;
    return 0;
  }
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) return broken_ = true, std::string_view();
    const auto taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  uint64_t fixed(size_t size) {
    uint64_t result = 0;
    take(size).copy(reinterpret_cast<char*>(&result), size);
    return result;
  }

  std::string_view rest_;
  bool broken_ = false;
};

Failure broken(const std::string& path, std::string_view part) {
  return fail(ErrorCode::corrupt, "reading {}: {} is cut off or no protocol buffer", path, part);
}

Result<void> read_piece(const std::string& path, std::string_view bytes, SentencePieceReader& reader) {
  Fields fields(bytes);
  std::string_view text;
  float score = 0;
  uint64_t kind = 1;
  while (fields.next()) {
    if (fields.number == 1) text = fields.bytes;
    if (fields.number == 2) score = std::bit_cast<float>(static_cast<uint32_t>(fields.value));
    if (fields.number == 3) kind = fields.value;
  }
  const int32_t id = reader.vocabulary.tokens.size();
  if (fields.broken()) return broken(path, fmt::format("piece {}", id));
  if (text.empty() || kind < 1 || kind > 6) {
    return fail(ErrorCode::corrupt, "reading {}: piece {} is '{}' of type {}, expected some text of a type from 1 to 6",
                path, id, text, kind);
  }
  CHECK_OK(reader.add_piece(id, text, score, static_cast<TokenKind>(kind)));
  if (static_cast<TokenKind>(kind) == TokenKind::user_defined) reader.rules.symbols[id] = text;
  return {};
}

Result<void> read_trainer(const std::string& path, std::string_view bytes, SentencePieceReader& reader) {
  Fields fields(bytes);
  uint64_t model = 1;
  int32_t unknown = 0, bos = 1, eos = 2, padding = -1;
  bool suffix = false;
  while (fields.next()) {
    const auto id = static_cast<int32_t>(fields.value);
    if (fields.number == 3) model = fields.value;
    if (fields.number == 24) suffix = fields.value != 0;
    if (fields.number == 40) unknown = id;
    if (fields.number == 41) bos = id;
    if (fields.number == 42) eos = id;
    if (fields.number == 43) padding = id;
  }
  if (fields.broken()) return broken(path, "the trainer_spec");
  if (model != 1 && model != 2) {
    return fail(ErrorCode::unsupported, "reading {}: model type {}; supported are 1 (unigram) and 2 (BPE)", path,
                model);
  }
  if (suffix) return fail(ErrorCode::unsupported, "reading {}: whitespace as a suffix is not supported", path);
  reader.rules.unigram = model == 1;
  const auto present = [](int32_t id) { return id < 0 ? std::nullopt : std::optional(id); };
  reader.vocabulary.unknown = present(unknown);
  reader.vocabulary.bos = present(bos);
  reader.vocabulary.eos = present(eos);
  reader.vocabulary.padding = present(padding);
  return {};
}

Result<void> read_normalizer(const std::string& path, std::string_view bytes, SentencePieceReader& reader) {
  Fields fields(bytes);
  bool dummy = true, extra = true, escapes = true;
  while (fields.next()) {
    if (fields.number == 2) reader.rules.charsmap = TRY(Charsmap::parse(fields.bytes));
    if (fields.number == 3) dummy = fields.value != 0;
    if (fields.number == 4) extra = fields.value != 0;
    if (fields.number == 5) escapes = fields.value != 0;
  }
  if (fields.broken()) return broken(path, "the normalizer_spec");
  if (!escapes) return fail(ErrorCode::unsupported, "reading {}: unescaped whitespace is not supported", path);
  reader.rules.prefix = dummy ? SentencePieceRules::Prefix::every_stretch : SentencePieceRules::Prefix::none;
  reader.rules.remove_extra_spaces = extra;
  return {};
}

// Those of the folder. The model's own tokens are listed there too: with the same text they stay what they are, but a
// piece that is listed as an added token is found whole in the text.
Result<void> add_special_tokens(const std::string& path, const std::vector<AddedToken>& added, Vocabulary& vocabulary) {
  std::vector<AddedToken> more;
  for (const AddedToken& token : added) {
    const bool own = token.id < vocabulary.tokens.size();
    if (!own) more.push_back(token);
    if (!own) continue;
    std::string piece;
    spaces_of_blocks(token.text, piece);
    const TokenKind kind = vocabulary.tokens.kind(token.id);
    const bool byte = kind == TokenKind::byte && byte_of_name(token.text) >= 0;
    if (vocabulary.tokens.bytes(token.id) != piece && !byte)
      return fail(ErrorCode::corrupt, "reading {}: token {} is '{}' there and '{}' among the added tokens", path,
                  token.id, vocabulary.tokens.bytes(token.id), token.text);
    if (kind == TokenKind::normal)
      vocabulary.tokens.set_kind(token.id, token.special ? TokenKind::control : TokenKind::user_defined);
  }
  CHECK_OK(add_tokens(more, vocabulary));
  if (!vocabulary.scores.empty()) vocabulary.scores.resize(static_cast<size_t>(vocabulary.tokens.size()));
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_tokenizer_model(const std::string& path) {
  SentencePieceReader reader;
  {
    const std::string file = TRY(read_text_file(path));
    Fields fields(file);
    reader.rules.unigram = true;
    reader.rules.remove_extra_spaces = reader.rules.removes_last_marks = true;
    reader.rules.takes_unused_apart = true;
    reader.vocabulary.adds_bos = true;
    while (fields.next()) {
      if (fields.number == 1) CHECK_OK(read_piece(path, fields.bytes, reader));
      if (fields.number == 2) CHECK_OK(read_trainer(path, fields.bytes, reader));
      if (fields.number == 3) CHECK_OK(read_normalizer(path, fields.bytes, reader));
    }
    if (fields.broken()) return broken(path, "the file");
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const std::vector<AddedToken> added = TRY(read_added_tokens(folder));
  for (const AddedToken& token : added) reader.rules.symbols.erase(token.id);  // tokenizers find these whole
  CHECK_OK(add_special_tokens(path, added, reader.vocabulary));
  CHECK_OK(read_tokenizer_config(folder, reader.vocabulary));
  CHECK_OK(finish(reader.vocabulary, path));
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

}  // namespace thimble
