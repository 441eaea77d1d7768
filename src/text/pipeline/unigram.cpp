#include <algorithm>
#include <array>
#include <cmath>

#include "text/pipeline/models.h"
#include "text/pipeline/unicode.h"
#include "text/vocabulary.h"

namespace thimble::pipeline {
namespace {

class Unigram final : public Model {
 public:
  Unigram(TokenTable tokens, std::vector<double> scores, int32_t unknown, bool byte_fallback)
      : scores_(std::move(scores)), unknown_(unknown) {
    tokens_ = std::move(tokens);
    constexpr double kUnknownPenalty = 10;
    unknown_score_ = *std::ranges::min_element(scores_) - kUnknownPenalty;
    for (int byte = 0; byte < 256; ++byte)
      byte_ids_[static_cast<size_t>(byte)] = byte_fallback ? tokens_.find(fmt::format("<0x{:02X}>", byte)) : -1;
  }

  Result<void> encode(std::string_view piece, std::vector<int32_t>& ids) override {
    CHECK_OK(check_word(piece.size(), 0));
    find_paths(piece);
    ends_.clear();
    for (size_t end = piece.size(); end > 0; end = steps_[end].start) ends_.push_back(end);
    size_t unknown_from = 0, begin = 0;  // of a run of unknown characters, which is one token
    for (auto end = ends_.rbegin(); end != ends_.rend(); begin = *end++) {
      const int32_t id = steps_[*end].id;
      if (id < 0) continue;
      CHECK_OK(append_unknown(piece.substr(unknown_from, begin - unknown_from), ids));
      ids.push_back(id);
      unknown_from = *end;
    }
    return append_unknown(piece.substr(unknown_from), ids);
  }

 private:
  struct Step {
    double score = 0;
    size_t start = kUnreached;
    int32_t id = -1;  // -1: unknown
  };
  static constexpr size_t kUnreached = SIZE_MAX;

  void reach(size_t start, size_t end, double score, int32_t id) {
    Step& step = steps_[end];
    const double total = steps_[start].score + score;
    if (step.start == kUnreached || total > step.score) step = {total, start, id};
  }

  void find_paths(std::string_view piece) {
    steps_.assign(piece.size() + 1, Step{});
    for (size_t at = 0; at < piece.size();) {
      const size_t length = decode_utf8(piece, at).length;
      const size_t limit = std::min(piece.size(), at + std::max(length, tokens_.longest()));
      bool single = false;
      uint64_t hash = TokenTable::kHashStart;
      for (size_t end = at + 1; end <= limit; ++end) {
        hash = TokenTable::extend_hash(hash, piece[end - 1]);
        const int32_t id = tokens_.find(piece.substr(at, end - at), hash);
        if (id < 0) continue;
        reach(at, end, scores_[static_cast<size_t>(id)], id);
        single |= end == at + length;
      }
      if (!single) reach(at, at + length, unknown_score_, -1);
      at += length;
    }
  }

  Result<void> append_unknown(std::string_view text, std::vector<int32_t>& ids) {
    if (text.empty()) return {};
    const auto id_of = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (std::ranges::all_of(text, [&](char byte) { return id_of(byte) >= 0; })) {
      for (const char byte : text) ids.push_back(id_of(byte));
      return {};
    }
    if (unknown_ < 0) return unknown_piece(text);
    ids.push_back(unknown_);
    return {};
  }

  std::vector<double> scores_;
  int32_t unknown_;
  double unknown_score_ = 0;
  std::array<int32_t, 256> byte_ids_{};
  std::vector<Step> steps_;  // by end of the path
  std::vector<size_t> ends_;
};

}  // namespace

Result<std::unique_ptr<Model>> read_unigram(const JsonTokenizer& json) {
  simdjson::dom::array vocab;
  if (json.model.at_key("vocab").get(vocab) != simdjson::SUCCESS)
    return fail(ErrorCode::corrupt, "reading {}: the Unigram model has no list 'vocab'", json.path);
  TokenTable tokens;
  std::vector<double> scores;
  for (const simdjson::dom::element item : vocab) {
    simdjson::dom::array pair;
    std::string_view piece;
    double score = 0;
    if (item.get(pair) != simdjson::SUCCESS || pair.at(0).get(piece) != simdjson::SUCCESS ||
        pair.at(1).get(score) != simdjson::SUCCESS || !std::isfinite(score))
      return fail(ErrorCode::corrupt, "reading {}: entry {} of the vocabulary is not [piece, score]", json.path,
                  scores.size());
    CHECK_OK(tokens.set(static_cast<int32_t>(scores.size()), piece, TokenKind::normal));
    scores.push_back(score);
  }
  if (scores.empty()) return fail(ErrorCode::corrupt, "reading {}: the vocabulary is empty", json.path);
  tokens.index();
  int64_t unknown = -1;
  std::ignore = json.model.at_key("unk_id").get(unknown);
  if (unknown < -1 || unknown >= static_cast<int64_t>(scores.size()))
    return fail(ErrorCode::corrupt, "reading {}: unk_id is {}, outside the vocabulary of {} pieces", json.path, unknown,
                scores.size());
  return std::make_unique<Unigram>(std::move(tokens), std::move(scores), static_cast<int32_t>(unknown),
                                   flag_of(json.model, "byte_fallback", false));
}

}  // namespace thimble::pipeline
