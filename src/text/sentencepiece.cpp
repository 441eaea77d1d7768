#include "text/sentencepiece.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "text/merger.h"
#include "text/save.h"
#include "text/utf8.h"

namespace thimble {
namespace {

using Prefix = SentencePieceRules::Prefix;
using Cut = SentencePieceRules::Cut;

constexpr std::string_view kBlock = "\u2581";

// Lower for higher scores, in the order of the floats.
uint32_t priority_of_score(float score) {
  const auto bits = std::bit_cast<uint32_t>(score);
  return (bits >> 31) ? bits : ~(bits | 0x80000000u);
}

class SentencePiece final : public VocabularyTokenizer {
 public:
  SentencePiece(Vocabulary vocabulary, SentencePieceRules rules)
      : VocabularyTokenizer(std::move(vocabulary)), rules_(std::move(rules)) {
    byte_ids_.fill(-1);
    bool crosses_words = false;
    float lowest = 0;
    for (int32_t id = 0; id < vocab_size(); ++id) {
      const std::string_view piece = bytes(id);
      const TokenKind kind = vocabulary_.tokens.kind(id);
      if (kind == TokenKind::byte) byte_ids_[static_cast<unsigned char>(piece[0])] = id;
      if (kind == TokenKind::unused && rules_.takes_unused_apart && !rules_.unigram) add_unused(id);
      const bool symbol = rules_.symbols.contains(id);
      if (symbol) add_symbol(id, rules_.symbols[id]);
      if (kind != TokenKind::normal && !symbol && (unused_ids_.empty() || unused_ids_.back() != id)) continue;
      for (size_t i = 1; i < piece.size(); ++i) crosses_words |= piece[i] == ' ' && piece[i - 1] != ' ';
      if (rules_.unigram && !symbol) lowest = std::min(lowest, vocabulary_.scores[static_cast<size_t>(id)]);
    }
    symbols_.build(symbol_table_);
    written_symbols_.build(written_table_);
    unused_table_.index();
    unknown_score_ = lowest - 10;
    if (rules_.cut == Cut::none && !crosses_words) rules_.cut = Cut::before_word;
  }

  size_t most_bytes_per_token() const override {
    const bool shortens = rules_.remove_extra_spaces || !rules_.charsmap.empty();
    const size_t of_space = rules_.marks_are_spaces ? kBlock.size() : 1;
    return shortens ? 0 : of_space * VocabularyTokenizer::most_bytes_per_token();
  }

  std::string decode(std::span<const int32_t> ids) const override;

  Result<void> save(const std::string& folder) const override {
    return save_sentencepiece(folder, vocabulary_, rules_, chat_template_);
  }
  Result<TokenizerTables> tables() const override { return sentencepiece_tables(vocabulary_, rules_, chat_template_); }

 private:
  Result<size_t> encode_stretch(std::string_view text, const Stretch& stretch, std::vector<int32_t>& ids) override;
  void add_symbol(int32_t id, std::string_view written);
  void add_unused(int32_t id) {
    if (unused_table_.set(unused_table_.size(), bytes(id), TokenKind::normal)) unused_ids_.push_back(id);
  }
  void map(std::string_view text);
  void normalise(std::string_view text, bool dummy);
  std::string_view without_marks(std::string_view text);
  size_t word_end(std::string_view text, size_t from) const;
  Result<void> merge_word(std::string_view word, size_t offset, std::vector<int32_t>& ids);
  Result<void> best_path(std::string_view word, size_t offset, std::vector<int32_t>& ids);
  Result<void> append(std::string_view word, size_t start, size_t length, int32_t id, size_t offset,
                      std::vector<int32_t>& ids);
  int32_t normalised_symbol(std::string_view character) const;
  bool is_frozen(const Symbol& symbol) const {
    return !symbol_ids_.empty() && std::ranges::binary_search(symbol_ids_, symbol.id);
  }
  PairMerge look_up(std::string_view word, const Symbol& left, const Symbol& right);
  int32_t find_unused(std::string_view piece) const {
    const int32_t found = unused_ids_.empty() ? -1 : unused_table_.find(piece);
    return found < 0 ? -1 : unused_ids_[static_cast<size_t>(found)];
  }
  bool has_bytes(std::string_view text) const {
    return std::ranges::all_of(text, [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; });
  }
  Result<void> append_merged(std::string_view word, size_t start, size_t length, int32_t id, size_t offset,
                             std::vector<int32_t>& ids);

  // That of sentencepiece 0.2.3, which counts the bytes of the piece as files write it. Others score below 0, so that a
  // symbol is taken but where a longer piece with it is much more likely.
  float symbol_score(std::string_view piece) const {
    const auto spaces = static_cast<size_t>(std::ranges::count(piece, ' '));
    const size_t written = piece.size() + spaces * (kBlock.size() - 1);
    return 0.1f * static_cast<float>(written - 1);
  }

  struct Step {
    double score = 0;    // a sum over the word, which a text without spaces makes long: in f32 near ties would be lost
    int32_t start = -1;  // of the last piece; -1: not reached
    int32_t id = -1;
  };

  SentencePieceRules rules_;
  std::array<int32_t, 256> byte_ids_{};
  float unknown_score_ = 0;
  // The rules' symbols as they are looked for in a text that is to be normalised, and with spaces for marks those that
  // a normalised text can have; symbol_ids_: of the latter.
  TokenTable written_table_, symbol_table_;
  std::vector<int32_t> symbol_ids_;
  SpecialTokens symbols_, written_symbols_;
  size_t longest_symbol_ = 0;
  TokenTable unused_table_;
  std::vector<int32_t> unused_ids_;
  std::map<std::string, size_t, std::less<>>
      left_of_;                 // bytes of the left part that an unused piece was merged of last
  bool after_unknown_ = false;  // the last token is the unknown one
  Merger merger_;
  std::string normal_, mapped_, spaced_;
  std::vector<Step> steps_;  // by end of the path
  std::vector<int32_t> ends_;
};

std::string SentencePiece::decode(std::span<const int32_t> ids) const {
  std::string text;
  bool dummy = rules_.prefix != Prefix::none;
  for (int32_t id : ids) {
    std::string_view piece = bytes(id);
    const bool ordinary = id >= 0 && id < vocab_size() && !is_apart(id);
    if (ordinary && dummy && piece.starts_with(' ')) piece.remove_prefix(1);
    if (ordinary) dummy = false;
    if (!ordinary && rules_.prefix == Prefix::every_stretch) dummy = true;
    text += piece;
  }
  return text;
}

// The text with spaces for its marks; of the text itself, or of spaced_.
std::string_view SentencePiece::without_marks(std::string_view text) {
  size_t mark = text.find(kBlock);
  if (mark == std::string_view::npos) return text;
  spaced_.clear();
  for (; mark != std::string_view::npos; mark = text.find(kBlock)) {
    spaced_.append(text.substr(0, mark)) += ' ';
    text.remove_prefix(mark + kBlock.size());
  }
  return spaced_.append(text);
}

// The vocabulary has taken the text with spaces. Written with marks it may be longer than a table takes (64 KiB): such
// a symbol is found in normalised text only.
void SentencePiece::add_symbol(int32_t id, std::string_view written) {
  (void)written_table_.set(written_table_.size(), written, TokenKind::user_defined);
  if (written.find(' ') != std::string_view::npos) return;
  (void)symbol_table_.set(symbol_table_.size(), bytes(id), TokenKind::user_defined);
  symbol_ids_.push_back(id);
  longest_symbol_ = std::max(longest_symbol_, bytes(id).size());
}

// Fills mapped_: by the charsmap, but for symbols; one of several spaces, and none at the ends.
void SentencePiece::map(std::string_view text) {
  mapped_.clear();
  bool after_space = rules_.remove_extra_spaces;
  while (!text.empty()) {
    const size_t start = mapped_.size();
    const SpecialTokens::Hit hit = written_symbols_.find_at(text, 0, false, false);
    const bool plain = hit.id >= 0 || rules_.charsmap.empty();
    const size_t length = hit.id >= 0 ? hit.end
                          : plain     ? size_t{decode_utf8(text, 0).length}
                                      : rules_.charsmap.normalise_first(text, mapped_);
    if (plain) mapped_ += text.substr(0, length);
    text.remove_prefix(length);
    if (!rules_.remove_extra_spaces) continue;
    while (after_space && mapped_.size() > start && mapped_[start] == ' ') mapped_.erase(start, 1);
    if (mapped_.size() > start) after_space = mapped_.ends_with(' ');
  }
  for (bool more = rules_.remove_extra_spaces; more;) {
    const bool space = mapped_.ends_with(' '), mark = rules_.removes_last_marks && mapped_.ends_with(kBlock);
    mapped_.resize(mapped_.size() - (space ? 1 : mark ? kBlock.size() : 0));
    more = space || mark;
  }
}

// Fills normal_.
void SentencePiece::normalise(std::string_view text, bool dummy) {
  normal_.clear();
  if (rules_.remove_extra_spaces || !rules_.charsmap.empty()) {
    map(text);
    text = mapped_;
  }
  if (text.empty()) return;
  if (rules_.marks_are_spaces) text = without_marks(text);
  if (dummy && !(rules_.prefix_unless_space && text.starts_with(' '))) normal_ += ' ';
  normal_ += text;
}

size_t SentencePiece::word_end(std::string_view text, size_t from) const {
  if (rules_.cut == Cut::none) return text.size();
  for (size_t i = from + 1; i < text.size(); ++i) {
    if (text[i] == ' ' && (rules_.cut == Cut::before_space || text[i - 1] != ' ')) return i;
  }
  return text.size();
}

Result<size_t> SentencePiece::encode_stretch(std::string_view text, const Stretch& stretch, std::vector<int32_t>& ids) {
  // Where in the source a normalised text ends is known only when nothing but the dummy prefix is changed.
  const bool marked = rules_.marks_are_spaces && text.find(kBlock) != std::string_view::npos;
  if (stretch.more && (marked || rules_.remove_extra_spaces || !rules_.charsmap.empty())) return size_t{0};
  const bool dummy =
      rules_.prefix == Prefix::every_stretch ? stretch.starts : rules_.prefix == Prefix::first_stretch && stretch.first;
  normalise(text, dummy);
  after_unknown_ = false;
  const size_t added = normal_.size() > text.size() ? normal_.size() - text.size() : 0;
  size_t known = 0, kept = ids.size();  // a text is not cut within a run of unknown characters, which is one token
  for (size_t at = 0; at < normal_.size();) {
    const size_t end = word_end(normal_, at);
    if (!after_unknown_) known = at, kept = ids.size();
    if (end == normal_.size() && stretch.more) return ids.resize(kept), known < added ? 0 : known - added;
    const std::string_view word = std::string_view(normal_).substr(at, end - at);
    const size_t offset = stretch.offset + (at < added ? 0 : at - added);
    CHECK_OK(check_word(word.size(), offset));
    CHECK_OK(rules_.unigram ? best_path(word, offset, ids) : merge_word(word, offset, ids));
    at = end;
  }
  return text.size();
}

Result<void> SentencePiece::append(std::string_view word, size_t start, size_t length, int32_t id, size_t offset,
                                   std::vector<int32_t>& ids) {
  const bool after_unknown = std::exchange(after_unknown_, false);
  if (id < 0) id = normalised_symbol(word.substr(start, length));
  if (id >= 0) return ids.push_back(id), Result<void>();
  for (size_t i = start; i < start + length; ++i) {
    const auto byte = static_cast<unsigned char>(word[i]);
    // Files write a space as U+2581: where that is no piece, its bytes stand for it.
    if (byte == ' ' && rules_.marks_are_spaces && has_bytes(kBlock)) {
      for (const char c : kBlock) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      continue;
    }
    if (byte_ids_[byte] >= 0) {
      ids.push_back(byte_ids_[byte]);
      continue;
    }
    if (!vocabulary_.unknown) return missing_byte(byte, offset + i);
    if (!after_unknown) ids.push_back(*vocabulary_.unknown);  // a run of unknown characters is one token
    after_unknown_ = true;
    return {};
  }
  return {};
}

// A symbol of the user's, which the text has only after its normalisation ("," for a fullwidth comma), or -1.
int32_t SentencePiece::normalised_symbol(std::string_view character) const {
  const auto id = rules_.charsmap.empty() ? std::nullopt : find(character);
  return id && vocabulary_.tokens.kind(*id) == TokenKind::user_defined ? *id : -1;
}

// What was merged; an unused piece is what it was merged of, and one of a single character none.
Result<void> SentencePiece::append_merged(std::string_view word, size_t start, size_t length, int32_t id, size_t offset,
                                          std::vector<int32_t>& ids) {
  const bool unused = id >= 0 && !unused_ids_.empty() && vocabulary_.tokens.kind(id) == TokenKind::unused;
  const auto left = unused ? left_of_.find(word.substr(start, length)) : left_of_.end();
  if (left == left_of_.end()) return append(word, start, length, unused ? -1 : id, offset, ids);
  const auto part = [&](size_t from, size_t count) {
    const std::string_view piece = word.substr(from, count);
    const int32_t normal = vocabulary_.tokens.find(piece);
    return append_merged(word, from, count, normal >= 0 ? normal : find_unused(piece), offset, ids);
  };
  const size_t cut = left->second;
  CHECK_OK(part(start, cut));
  return part(start + cut, length - cut);
}

PairMerge SentencePiece::look_up(std::string_view word, const Symbol& left, const Symbol& right) {
  if (is_frozen(left) || is_frozen(right)) return {};
  if (rules_.by_rank) {
    if (left.id < 0 || right.id < 0) return {};
    const int32_t rank = vocabulary_.merges.find(left.id, right.id);
    return rank < 0 ? PairMerge{}
                    : PairMerge{static_cast<uint32_t>(rank), vocabulary_.merges[static_cast<size_t>(rank)].merged};
  }
  if (left.length + right.length > std::max(vocabulary_.tokens.longest(), unused_table_.longest())) return {};
  const std::string_view piece = word.substr(left.start, left.length + right.length);
  int32_t id = vocabulary_.tokens.find(piece);
  if (id < 0 && (id = find_unused(piece)) >= 0) left_of_[std::string(piece)] = left.length;
  return id < 0 ? PairMerge{} : PairMerge{priority_of_score(vocabulary_.scores[static_cast<size_t>(id)]), id};
}

Result<void> SentencePiece::merge_word(std::string_view word, size_t offset, std::vector<int32_t>& ids) {
  merger_.clear();
  left_of_.clear();
  for (size_t at = 0; at < word.size();) {
    const SpecialTokens::Hit hit = symbols_.find_at(word, at, false, false);
    const auto length = hit.id >= 0 ? static_cast<uint32_t>(hit.end - at) : decode_utf8(word, at).length;
    merger_.add(
        static_cast<uint32_t>(at), length,
        hit.id >= 0 ? symbol_ids_[static_cast<size_t>(hit.id)] : vocabulary_.tokens.find(word.substr(at, length)));
    at += length;
  }
  merger_.run([&](const Symbol& left, const Symbol& right) { return look_up(word, left, right); });
  const auto& symbols = merger_.symbols();
  for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
    const Symbol& symbol = symbols[static_cast<size_t>(i)];
    CHECK_OK(append_merged(word, symbol.start, symbol.length, symbol.id, offset, ids));
  }
  return {};
}

Result<void> SentencePiece::best_path(std::string_view word, size_t offset, std::vector<int32_t>& ids) {
  steps_.assign(word.size() + 1, Step{});
  steps_[0].start = 0;
  const auto reach = [&](size_t start, size_t end, float score, int32_t id) {
    Step& step = steps_[end];
    const double total = steps_[start].score + score;
    if (step.start < 0 || total > step.score) step = {total, static_cast<int32_t>(start), id};
  };
  for (size_t at = 0; at < word.size();) {
    const size_t length = decode_utf8(word, at).length;
    const size_t limit = std::min(word.size(), at + std::max(length, vocabulary_.tokens.longest()));
    bool single = false;
    uint64_t hash = TokenTable::kHashStart;
    for (size_t end = at + 1; end <= limit; ++end) {
      hash = TokenTable::extend_hash(hash, word[end - 1]);
      const int32_t id = vocabulary_.tokens.find(word.substr(at, end - at), hash);
      if (id < 0) continue;
      reach(at, end, vocabulary_.scores[static_cast<size_t>(id)], id);
      single |= end == at + length;
    }
    for (size_t end = at + 1; end <= std::min(word.size(), at + longest_symbol_); ++end) {
      const int32_t symbol = symbols_.find(word.substr(at, end - at));
      if (symbol < 0) continue;
      reach(at, end, symbol_score(word.substr(at, end - at)), symbol_ids_[static_cast<size_t>(symbol)]);
      single |= end == at + length;
    }
    if (!single) reach(at, at + length, unknown_score_, -1);
    at += length;
  }
  ends_.clear();
  for (auto end = static_cast<int32_t>(word.size()); end > 0; end = steps_[static_cast<size_t>(end)].start) {
    ends_.push_back(end);
  }
  for (auto end = ends_.rbegin(); end != ends_.rend(); ++end) {
    const Step& step = steps_[static_cast<size_t>(*end)];
    const auto start = static_cast<size_t>(step.start);
    CHECK_OK(append(word, start, static_cast<size_t>(*end) - start, step.id, offset, ids));
  }
  return {};
}

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece(Vocabulary vocabulary, SentencePieceRules rules) {
  for (const auto& [id, written] : rules.symbols) vocabulary.symbols.push_back(id);
  return std::make_unique<SentencePiece>(std::move(vocabulary), std::move(rules));
}

void spaces_of_blocks(std::string_view piece, std::string& text) {
  text.clear();
  for (size_t at = 0; at < piece.size();) {
    const bool block = piece.substr(at).starts_with(kBlock);
    text += block ? ' ' : piece[at];
    at += block ? kBlock.size() : 1;
  }
}

std::string blocks_of_spaces(std::string_view text) {
  std::string piece;
  for (char c : text) {
    if (c == ' ') {
      piece += kBlock;
    } else {
      piece += c;
    }
  }
  return piece;
}

int byte_of_name(std::string_view name) {
  if (name.size() != 6 || !name.starts_with("<0x") || name[5] != '>') return -1;
  int byte = 0;
  for (char c : name.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return -1;
    byte = byte * 16 + digit;
  }
  return byte;
}

Result<void> SentencePieceReader::add_piece(int32_t id, std::string_view piece, float score, TokenKind kind) {
  if (!std::isfinite(score)) {
    return fail(ErrorCode::corrupt, "reading a vocabulary: the score of token {} is {}, expected a number", id, score);
  }
  if (kind == TokenKind::byte) {
    const int byte = byte_of_name(piece);
    if (byte < 0) {
      return fail(ErrorCode::corrupt, "reading a vocabulary: byte token {} is '{}', expected <0x00> to <0xFF>", id,
                  piece);
    }
    text_.assign(1, static_cast<char>(byte));
  } else if (kind == TokenKind::normal || kind == TokenKind::user_defined || kind == TokenKind::unused) {
    spaces_of_blocks(piece, text_);
  } else {
    text_ = piece;
  }
  CHECK_OK(vocabulary.tokens.set(id, text_, kind));
  const auto at = static_cast<size_t>(id);
  if (vocabulary.scores.size() <= at) vocabulary.scores.resize(at + 1);
  vocabulary.scores[at] = score;
  return {};
}

void SentencePieceReader::start_merges() {
  vocabulary.tokens.index();
  specials_.build(vocabulary.tokens);
}

Result<void> SentencePieceReader::add_merge(std::string_view left, std::string_view right) {
  const auto look_up = [&](std::string_view piece, int32_t& id) -> Result<bool> {
    id = vocabulary.tokens.find(piece);
    if (id >= 0) return true;
    if (specials_.find(piece) >= 0) return false;
    return fail(ErrorCode::corrupt, "reading merge {}, '{}' with '{}': '{}' is not in the vocabulary",
                vocabulary.merges.size(), left, right, blocks_of_spaces(piece));
  };
  spaces_of_blocks(left, text_);
  spaces_of_blocks(right, right_);
  Merge merge;
  if (!TRY(look_up(text_, merge.left)) || !TRY(look_up(right_, merge.right))) return {};
  text_ += right_;
  if (!TRY(look_up(text_, merge.merged))) return {};
  vocabulary.merges.add(merge);
  return {};
}

}  // namespace thimble
