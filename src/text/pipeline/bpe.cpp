#include <array>

#include "text/merge_table.h"
#include "text/merger.h"
#include "text/pipeline/models.h"
#include "text/pipeline/unicode.h"
#include "text/vocabulary.h"

namespace thimble::pipeline {
namespace {

struct Rules {
  int32_t unknown = -1;
  bool fuses_unknown = false;   // neighbouring unknown characters are one token
  bool byte_fallback = false;   // an unknown character is its bytes
  bool ignores_merges = false;  // a piece that is a token as a whole is taken as it is
  std::string prefix, suffix;   // of a character within a word, and of its last one
};

class Bpe final : public Model {
 public:
  Bpe(TokenTable tokens, MergeTable merges, Rules rules) : merges_(std::move(merges)), rules_(std::move(rules)) {
    tokens_ = std::move(tokens);
    for (int byte = 0; byte < 256; ++byte)
      byte_ids_[static_cast<size_t>(byte)] = rules_.byte_fallback ? tokens_.find(fmt::format("<0x{:02X}>", byte)) : -1;
  }

  Result<void> encode(std::string_view piece, std::vector<int32_t>& ids) override {
    if (rules_.ignores_merges)
      if (const int32_t id = tokens_.find(piece); id >= 0) return ids.push_back(id), Result<void>();
    CHECK_OK(check_word(piece.size(), 0));
    merger_.clear();
    bool after_unknown = false;
    for (size_t at = 0; at < piece.size();) {
      const uint32_t length = decode_utf8(piece, at).length;
      CHECK_OK(add_character(piece, at, length, after_unknown));
      at += length;
    }
    merger_.run([&](const Symbol& left, const Symbol& right) -> PairMerge {
      const int32_t rank = merges_.find(left.id, right.id);
      if (rank < 0) return {};
      return {static_cast<uint32_t>(rank), merges_[static_cast<size_t>(rank)].merged};
    });
    const auto& symbols = merger_.symbols();
    for (int32_t i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[static_cast<size_t>(i)].next)
      ids.push_back(symbols[static_cast<size_t>(i)].id);
    return {};
  }

 private:
  Result<void> add_character(std::string_view piece, size_t at, uint32_t length, bool& after_unknown) {
    text_.assign(at > 0 ? rules_.prefix : "");
    text_ += piece.substr(at, length);
    if (at + length == piece.size()) text_ += rules_.suffix;
    const auto start = static_cast<uint32_t>(at);
    const int32_t id = tokens_.find(text_);
    if (id >= 0) {
      merger_.add(start, length, id);
      after_unknown = false;
      return {};
    }
    const auto known_byte = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; };
    if (std::ranges::all_of(text_, known_byte)) {
      // Those of the prefix and the suffix too.
      for (const char byte : text_) merger_.add(start, length, byte_ids_[static_cast<unsigned char>(byte)]);
      after_unknown = false;
      return {};
    }
    if (rules_.unknown < 0) return unknown_piece(piece.substr(at, length));
    if (!(after_unknown && rules_.fuses_unknown)) merger_.add(start, length, rules_.unknown);
    after_unknown = true;
    return {};
  }

  MergeTable merges_;
  Rules rules_;
  std::array<int32_t, 256> byte_ids_{};
  Merger merger_;
  std::string text_;
};

}  // namespace

Result<std::unique_ptr<Model>> read_bpe(const JsonTokenizer& json) {
  TokenTable tokens;
  CHECK_OK(read_vocabulary(json, tokens));
  double dropout = 0;
  if (json.model.at_key("dropout").get(dropout) == simdjson::SUCCESS && dropout != 0)
    return unsupported_part(json, "option", "dropout", "none: tokens would be random");
  Rules rules{TRY(token_of(json, "unk_token", tokens)),
              flag_of(json.model, "fuse_unk", false),
              flag_of(json.model, "byte_fallback", false),
              flag_of(json.model, "ignore_merges", false),
              std::string(text_of(json.model, "continuing_subword_prefix")),
              std::string(text_of(json.model, "end_of_word_suffix"))};
  MergeTable merges;
  std::string both;
  CHECK_OK(for_each_merge(json, [&](std::string_view left, std::string_view right) -> Result<void> {
    both = left;
    both += right.starts_with(rules.prefix) ? right.substr(rules.prefix.size()) : right;
    const Merge merge{tokens.find(left), tokens.find(right), tokens.find(both)};
    for (const auto& [id, text] :
         {std::pair(merge.left, left), std::pair(merge.right, right), std::pair(merge.merged, std::string_view(both))})
      if (id < 0)
        return fail(ErrorCode::corrupt, "reading {}: of merge {}, '{}' with '{}', '{}' is not in the vocabulary",
                    json.path, merges.size(), left, right, text);
    merges.add(merge);
    return {};
  }));
  merges.index();
  return std::make_unique<Bpe>(std::move(tokens), std::move(merges), std::move(rules));
}

}  // namespace thimble::pipeline
