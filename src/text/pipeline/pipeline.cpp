#include "text/pipeline/pipeline.h"

#include <algorithm>
#include <filesystem>

#include "core/warnings.h"
#include "files/file.h"
#include "files/file_kind.h"
#include "text/keep_files.h"
#include "text/pipeline/decoders.h"
#include "text/pipeline/models.h"
#include "text/pipeline/normalizers.h"
#include "text/pipeline/splitters.h"
#include "text/tokenizer_config.h"

namespace thimble::pipeline {
namespace {

// Where a tokenizer.json came from, so that it can be written again byte for byte.
struct Source {
  std::string path, text;
};

struct Steps {
  std::vector<Normalizer> normalizers;
  Splitters splitters;
  std::unique_ptr<Model> model;
  Decoders decoders;
};

class Pipeline final : public VocabularyTokenizer {
 public:
  Pipeline(Vocabulary vocabulary, TokenTable normalized, Steps steps, Source source, std::unique_ptr<Tokenizer> plain)
      : VocabularyTokenizer(std::move(vocabulary)),
        normalized_(std::move(normalized)),
        steps_(std::move(steps)),
        source_(std::move(source)),
        plain_(std::move(plain)) {
    after_normalizing_.build(normalized_, vocabulary_.rules);
  }

  size_t most_bytes_per_token() const override { return 0; }  // normalizers take text away

  std::string decode(std::span<const int32_t> ids) const override {
    std::vector<std::string> tokens;
    for (const int32_t id : ids) {
      const std::string_view piece = steps_.model->tokens().bytes(id);
      tokens.emplace_back(piece.empty() || is_special(id) ? bytes(id) : piece);
    }
    return steps_.decoders.decode(std::move(tokens));
  }

  Result<void> save(const std::string& folder) const override {
    const std::string to = (std::filesystem::path(folder) / "tokenizer.json").string();
    CHECK_OK(source_.text.empty() ? copy_file(source_.path, to) : write_text_file(to, source_.text));
    return write_tokenizer_config(folder, vocabulary_, chat_template_);
  }

  Result<TokenizerTables> tables() const override {
    if (plain_) {
      warn(fmt::format("{}: in GGUF added tokens are found in a text as it is, not once it is normalized",
                       source_.path));
      return plain_->tables();
    }
    return fail(
        ErrorCode::unsupported,
        "writing a tokenizer for GGUF: one that is neither byte-level BPE nor SentencePiece has no words there; "
        "keep the Hugging Face folder");
  }

 private:
  Result<size_t> encode_stretch(std::string_view text, const Stretch& stretch, std::vector<int32_t>& ids) override {
    const size_t end = stretch.more ? certain_end(text) : text.size();
    if (end == 0) return size_t{0};
    text = text.substr(0, end);
    if (const size_t valid = valid_utf8(text, false); valid < text.size())
      return fail(ErrorCode::invalid_argument,
                  "tokenizing: byte 0x{:02X} at offset {} is not UTF-8, and this tokenizer works on characters",
                  static_cast<unsigned char>(text[valid]), stretch.offset + valid);
    normal_ = text;
    for (const Normalizer& step : steps_.normalizers) CHECK_OK(step(normal_, {stretch.starts, !stretch.more}));
    for (size_t at = 0; at < normal_.size();) {
      const SpecialTokens::Hit hit = after_normalizing_.find(normal_, at, true, false);
      const TextSpan taken = after_normalizing_.taken(normal_, at, hit);
      if (taken.begin > at)
        CHECK_OK(encode_ordinary(
            {normal_.substr(at, taken.begin - at), stretch.first && at == 0, !stretch.starts && at == 0}, ids));
      if (hit.id >= 0) ids.push_back(hit.id);
      at = taken.end;
    }
    return end;
  }

  Result<void> encode_ordinary(Piece whole, std::vector<int32_t>& ids) {
    Pieces pieces{std::move(whole)};
    for (const Splitter& step : steps_.splitters.steps) CHECK_OK(step(pieces));
    for (const Piece& piece : pieces) CHECK_OK(steps_.model->encode(piece.text, ids));
    return {};
  }

  // Where no token, and no normalizer, reaches across: a space between two small letters.
  size_t certain_end(std::string_view text) const {
    const auto letter = [&](size_t at) { return text[at] >= 'a' && text[at] <= 'z'; };
    if (!steps_.splitters.cuts_at_spaces || normalized_.size() > 0) return 0;
    for (size_t at = text.size(); at-- > 2;)
      if (text[at - 1] == ' ' && letter(at) && letter(at - 2)) return at - 1;
    return 0;
  }

  TokenTable normalized_;  // added tokens that are looked for after normalizing, normalized themselves
  SpecialTokens after_normalizing_;
  Steps steps_;
  Source source_;
  std::unique_ptr<Tokenizer> plain_;  // the nearest one that GGUF has words for, or none
  std::string normal_;
};

// Whether a step cuts at spaces, and a space is still one when it gets there.
Result<bool> cuts_at_spaces(const Steps& steps) {
  std::string text = "a b";
  for (const Normalizer& step : steps.normalizers) CHECK_OK(step(text, {.begins = false, .ends = false}));
  if (!steps.splitters.cuts_at_spaces || text != "a b") return false;
  Pieces pieces{{.text = text, .first = false, .joins = true}};
  for (const Splitter& step : steps.splitters.steps) CHECK_OK(step(pieces));
  const auto has = [](const Piece& piece, char letter) { return piece.text.find(letter) != std::string::npos; };
  return std::ranges::none_of(pieces, [&](const Piece& piece) { return has(piece, 'a') && has(piece, 'b'); });
}

// The vocabulary as the others see it: tokens as they stand in running text, special ones as they are.
Result<void> fill(const JsonTokenizer& json, const Steps& steps, Vocabulary& vocabulary, TokenTable& normalized) {
  for (const auto& added : json.added) {
    CHECK_OK(vocabulary.tokens.set(added.id, added.text, added.kind));
    if (added.rules.any()) vocabulary.rules.push_back(added.rules);
    if (!added.normalized || added.kind == TokenKind::control || steps.normalizers.empty()) continue;
    std::string text(added.text);
    for (const Normalizer& step : steps.normalizers) CHECK_OK(step(text, {}));
    CHECK_OK(normalized.set(added.id, text, TokenKind::user_defined));
    vocabulary.symbols.push_back(added.id);
  }
  const TokenTable& tokens = steps.model->tokens();
  for (int32_t id = 0; id < tokens.size(); ++id)
    if (!json.is_added(id) && !tokens.bytes(id).empty())
      CHECK_OK(vocabulary.tokens.set(id, steps.decoders.inner(std::string(tokens.bytes(id))), TokenKind::normal));
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read(const JsonTokenizer& json, std::string text, std::unique_ptr<Tokenizer> plain) {
  Steps steps;
  steps.normalizers = TRY(read_normalizers(json));
  steps.splitters = TRY(read_splitters(json));
  steps.splitters.cuts_at_spaces = TRY(cuts_at_spaces(steps));
  steps.model = TRY(read_model(json));
  steps.decoders = TRY(Decoders::read(json));
  Vocabulary vocabulary;
  TokenTable normalized;
  CHECK_OK(fill(json, steps, vocabulary, normalized));
  CHECK_OK(read_processors(json, vocabulary));
  CHECK_OK(finish(vocabulary, json.path));
  return std::make_unique<Pipeline>(std::move(vocabulary), std::move(normalized), std::move(steps),
                                    Source{json.path, std::move(text)}, std::move(plain));
}

}  // namespace thimble::pipeline
