#include "text/byte_bpe.h"

#include <array>

#include "text/byte_characters.h"
#include "text/merger.h"
#include "text/nfc.h"
#include "text/save.h"

namespace thimble {
namespace {

class ByteBpe final : public VocabularyTokenizer, private PreTokenizer::Sink {
 public:
  ByteBpe(Vocabulary vocabulary, ByteBpeRules rules)
      : VocabularyTokenizer(std::move(vocabulary)), rules_(std::move(rules)) {
    for (int byte = 0; byte < 256; ++byte) {
      const char character = static_cast<char>(byte);
      byte_ids_[static_cast<size_t>(byte)] = vocabulary_.tokens.find({&character, 1});
    }
  }

  // Unicode's NFC makes no text shorter than a third.
  size_t most_bytes_per_token() const override {
    return VocabularyTokenizer::most_bytes_per_token() * (rules_.nfc ? 3 : 1);
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (int32_t id : ids) text += bytes(id);
    return text;
  }

  Result<void> save(const std::string& folder) const override {
    return save_byte_bpe(folder, vocabulary_, rules_, chat_template_);
  }
  Result<TokenizerTables> tables() const override { return byte_bpe_tables(vocabulary_, rules_, chat_template_); }

 private:
  Result<size_t> encode_stretch(std::string_view text, const Stretch& stretch, std::vector<int32_t>& ids) override {
    ids_ = &ids;
    base_ = text.data() - stretch.offset;
    if (rules_.nfc && stretch.more) text = text.substr(0, certain_nfc(text));
    if (text.empty()) return size_t{0};
    if (rules_.nfc && !is_surely_nfc(text)) return encode_normalised(text, stretch);
    if (!rules_.prefix_space || !stretch.starts || text[0] == ' ') return rules_.pre.split(text, stretch.more, *this);
    prefixed_.assign(1, ' ');
    prefixed_ += text;
    base_ = prefixed_.data() + 1 - stretch.offset;
    const size_t done = TRY(rules_.pre.split(prefixed_, stretch.more, *this));
    return done == 0 ? 0 : done - 1;
  }

  // What is done of the normalised text must be said in bytes of the source: pieces after the last one that ends where
  // the two correspond are taken back.
  Result<size_t> encode_normalised(std::string_view text, const Stretch& stretch) {
    to_nfc(text, normal_, runs_);
    if (rules_.prefix_space && stretch.starts && !normal_.starts_with(' ')) {
      normal_.insert(normal_.begin(), ' ');
      for (NfcRun& run : runs_) ++run.to;
    }
    base_ = normal_.data() - stretch.offset;
    if (!stretch.more) {
      TRY(rules_.pre.split(normal_, false, *this));
      return text.size();
    }
    sure_ = {0, ids_->size()};
    next_run_ = 0;
    tracks_ = true;
    const auto done = rules_.pre.split(normal_, true, *this);
    tracks_ = false;
    if (!done) return Failure(done.error());
    ids_->resize(sure_.ids);
    return sure_.source;
  }

  Result<void> piece(std::string_view bytes) override {
    CHECK_OK(encode_piece(bytes));
    if (!tracks_) return {};
    const auto end = static_cast<size_t>(bytes.data() + bytes.size() - normal_.data());
    while (next_run_ < runs_.size() && runs_[next_run_].to + runs_[next_run_].length < end) ++next_run_;
    if (next_run_ < runs_.size() && runs_[next_run_].to <= end) {
      sure_ = {runs_[next_run_].from + end - runs_[next_run_].to, ids_->size()};
    }
    return {};
  }

  Result<void> encode_piece(std::string_view bytes) {
    if (rules_.ignores_merges) {
      if (const int32_t id = vocabulary_.tokens.find(bytes); id >= 0) return ids_->push_back(id), Result<void>();
    }
    CHECK_OK(check_word(bytes.size(), static_cast<size_t>(bytes.data() - base_)));
    merger_.clear();
    for (size_t i = 0; i < bytes.size(); ++i) {
      const auto byte = static_cast<unsigned char>(bytes[i]);
      if (byte_ids_[byte] < 0) return missing_byte(byte, static_cast<size_t>(bytes.data() + i - base_));
      merger_.add(static_cast<uint32_t>(i), 1, byte_ids_[byte]);
    }
    merger_.run([&](const Symbol& left, const Symbol& right) {
      const int32_t rank = vocabulary_.merges.find(left.id, right.id);
      return rank < 0 ? PairMerge{}
                      : PairMerge{static_cast<uint32_t>(rank), vocabulary_.merges[static_cast<size_t>(rank)].merged};
    });
    const auto& symbols = merger_.symbols();
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      ids_->push_back(symbols[static_cast<size_t>(i)].id);
    }
    return {};
  }

  ByteBpeRules rules_;
  std::array<int32_t, 256> byte_ids_{};
  Merger merger_;
  std::string prefixed_, normal_;
  std::vector<NfcRun> runs_;
  struct Sure {
    size_t source = 0, ids = 0;
  };
  bool tracks_ = false;  // while encoding a normalised text that goes on
  size_t next_run_ = 0;
  Sure sure_;                            // of the last piece that ends where source and normalised text correspond
  std::vector<int32_t>* ids_ = nullptr;  // while encoding
  const char* base_ = nullptr;           // while encoding: offset 0 of the text
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_bpe(Vocabulary vocabulary, ByteBpeRules rules) {
  return std::make_unique<ByteBpe>(std::move(vocabulary), std::move(rules));
}

Result<void> ByteBpeReader::add_token(int32_t id, std::string_view characters, TokenKind kind) {
  if (kind != TokenKind::normal) return vocabulary.tokens.set(id, characters, kind);
  if (!bytes_of_characters(characters, left_)) return vocabulary.tokens.set(id, characters, TokenKind::unused);
  return vocabulary.tokens.set(id, left_, kind);
}

Result<void> ByteBpeReader::add_merge(std::string_view both) {
  const size_t space = both.find(' ');
  if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
    return fail(ErrorCode::corrupt, "reading merge {}: expected two tokens with a space between, found '{}'",
                vocabulary.merges.size(), both);
  }
  return add_merge(both.substr(0, space), both.substr(space + 1));
}

void ByteBpeReader::start_merges() {
  vocabulary.tokens.index();
  specials_.build(vocabulary.tokens);
}

Result<void> ByteBpeReader::add_merge(std::string_view left, std::string_view right) {
  const auto look_up = [&](std::string_view characters, std::string_view bytes, int32_t& id) -> Result<bool> {
    id = vocabulary.tokens.find(bytes);
    if (id >= 0) return true;
    if (specials_.find(characters) >= 0) return false;
    return fail(ErrorCode::corrupt, "reading merge {}, '{}' with '{}': '{}' is not in the vocabulary",
                vocabulary.merges.size(), left, right, characters);
  };
  Merge merge;
  if (!bytes_of_characters(left, left_)) left_.clear();
  if (!bytes_of_characters(right, right_)) right_.clear();
  if (!TRY(look_up(left, left_, merge.left)) || !TRY(look_up(right, right_, merge.right))) return {};
  left_ += right_;
  if (!TRY(look_up(fmt::format("{}{}", left, right), left_, merge.merged))) return {};
  vocabulary.merges.add(merge);
  return {};
}

}  // namespace thimble
