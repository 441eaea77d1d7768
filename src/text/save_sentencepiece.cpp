#include <algorithm>
#include <filesystem>

#include "text/save.h"
#include "text/save_parts.h"
#include "text/tokenizer_config.h"

namespace thimble {
namespace {

using Prefix = SentencePieceRules::Prefix;
using Cut = SentencePieceRules::Cut;

// A piece as files write it.
std::string written(const Vocabulary& vocabulary, int32_t id) {
  const std::string_view bytes = vocabulary.tokens.bytes(id);
  switch (vocabulary.tokens.kind(id)) {
    case TokenKind::byte:
      return fmt::format("<0x{:02X}>", static_cast<unsigned char>(bytes[0]));
    case TokenKind::normal:
    case TokenKind::unused:
      return blocks_of_spaces(bytes);
    default:
      return std::string(bytes);
  }
}

bool has_bytes(const Vocabulary& vocabulary) {
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens.kind(id) == TokenKind::byte) return true;
  }
  return false;
}

std::string encode_base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = 0; j < 3; ++j)
      bits = (bits << 8) | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : kDigits[(bits >> (18 - 6 * j)) & 63];
  }
  return text;
}

// Metaspace adds its prefix only where there is no space yet, so it stands for rules that say the same.
bool uses_metaspace(const SentencePieceRules& rules) {
  return rules.prefix_unless_space || rules.cut == Cut::before_space;
}

std::string normalizer_json(const SentencePieceRules& rules) {
  std::string list;
  const auto add = [&](std::string_view part) { list += fmt::format("{}{}", list.empty() ? "" : ",", part); };
  if (!rules.charsmap.empty()) {
    add(fmt::format(R"({{"type":"Precompiled","precompiled_charsmap":"{}"}})", encode_base64(rules.charsmap.bytes())));
  }
  if (rules.remove_extra_spaces) {
    add(R"({"type":"Replace","pattern":{"Regex":"^ +| +$"},"content":""})");
    add(R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "})");
  }
  if (!uses_metaspace(rules)) {
    if (rules.prefix != Prefix::none) add("{\"type\":\"Prepend\",\"prepend\":\"\u2581\"}");
    add("{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}");
  }
  return list.empty() ? "null" : fmt::format(R"({{"type":"Sequence","normalizers":[{}]}})", list);
}

std::string pre_tokenizer_json(const SentencePieceRules& rules) {
  if (!uses_metaspace(rules)) return "null";
  const char* scheme = rules.prefix == Prefix::none            ? "never"
                       : rules.prefix == Prefix::first_stretch ? "first"
                                                               : "always";
  return fmt::format("{{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"{}\",\"split\":{}}}",
                     scheme, rules.cut == Cut::before_space);
}

std::string decoder_json(const SentencePieceRules& rules) {
  return fmt::format(
      "{{\"type\":\"Sequence\",\"decoders\":[{{\"type\":\"Replace\",\"pattern\":{{\"String\":\"\u2581\"}},\"content\":"
      "\" \"}},"
      "{{\"type\":\"ByteFallback\"}},{{\"type\":\"Fuse\"}}{}]}}",
      rules.prefix == Prefix::none ? "" : R"(,{"type":"Strip","content":" ","start":1,"stop":0})");
}

// A vocabulary with scores as merges: the pieces by falling score, each with every pair of pieces it is made of.
Result<void> for_each_scored_merge(const Vocabulary& vocabulary,
                                   const std::function<Result<void>(const Merge&)>& visit) {
  std::vector<int32_t> order;
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens.kind(id) == TokenKind::normal) order.push_back(id);
  }
  std::ranges::stable_sort(order, std::ranges::greater(),
                           [&](int32_t id) { return vocabulary.scores[static_cast<size_t>(id)]; });
  std::vector<Merge> pairs;
  for (int32_t id : order) {
    const std::string_view bytes = vocabulary.tokens.bytes(id);
    pairs.clear();
    for (size_t cut = 1; cut < bytes.size(); ++cut) {
      const int32_t left = vocabulary.tokens.find(bytes.substr(0, cut));
      const int32_t right = left < 0 ? -1 : vocabulary.tokens.find(bytes.substr(cut));
      if (right >= 0) pairs.push_back({left, right, id});
    }
    std::ranges::sort(pairs, {}, [](const Merge& merge) { return std::pair(merge.left, merge.right); });
    for (const Merge& merge : pairs) CHECK_OK(visit(merge));
  }
  return {};
}

Result<void> write_unigram(const Vocabulary& vocabulary, JsonOutput& out) {
  out.raw("\"model\":{\"type\":\"Unigram\",");
  if (vocabulary.unknown) out.raw(fmt::format("\"unk_id\":{},", *vocabulary.unknown));
  out.raw(fmt::format("\"byte_fallback\":{},\"vocab\":[\n", has_bytes(vocabulary)));
  bool first = true;
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    CHECK_OK(out.separate(first));
    out.raw("[");
    out.string(vocabulary.tokens.bytes(id).empty() ? fmt::format("[PAD{}]", id) : written(vocabulary, id));
    out.raw(fmt::format(",{}]", vocabulary.scores[static_cast<size_t>(id)]));
  }
  out.raw("]}}\n");
  return {};
}

Result<void> write_bpe(const Vocabulary& vocabulary, const SentencePieceRules& rules, JsonOutput& out) {
  const std::string unknown = vocabulary.unknown ? json_string(vocabulary.tokens.bytes(*vocabulary.unknown)) : "null";
  out.raw(fmt::format(
      "\"model\":{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":{},\"continuing_subword_prefix\":null,"
      "\"end_of_word_suffix\":null,\"fuse_unk\":true,\"byte_fallback\":{},\"ignore_merges\":false,\n\"vocab\":{{\n",
      unknown, has_bytes(vocabulary)));
  bool first = true;
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens.bytes(id).empty()) continue;
    CHECK_OK(out.separate(first));
    out.string(written(vocabulary, id));
    out.raw(fmt::format(":{}", id));
  }
  out.raw("},\n\"merges\":[\n");
  first = true;
  const auto write = [&](const Merge& merge) -> Result<void> {
    CHECK_OK(out.separate(first));
    out.raw("[");
    out.string(written(vocabulary, merge.left));
    out.raw(",");
    out.string(written(vocabulary, merge.right));
    out.raw("]");
    return {};
  };
  if (rules.by_rank) {
    for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) CHECK_OK(write(vocabulary.merges[rank]));
  } else {
    CHECK_OK(for_each_scored_merge(vocabulary, write));
  }
  out.raw("]}}\n");
  return {};
}

}  // namespace

Result<void> save_sentencepiece(const std::string& folder, const Vocabulary& vocabulary,
                                const SentencePieceRules& rules, const std::string& chat_template) {
  JsonOutput out(TRY(OutputFile::create((std::filesystem::path(folder) / "tokenizer.json").string())));
  out.raw(fmt::format("{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":{},\n",
                      added_tokens_json(vocabulary)));
  out.raw(
      fmt::format("\"normalizer\":{},\n\"pre_tokenizer\":{},\n", normalizer_json(rules), pre_tokenizer_json(rules)));
  out.raw(fmt::format("\"post_processor\":{},\n\"decoder\":{},\n", post_processor_json(vocabulary, "null"),
                      decoder_json(rules)));
  CHECK_OK(rules.unigram ? write_unigram(vocabulary, out) : write_bpe(vocabulary, rules, out));
  CHECK_OK(out.commit());
  return write_tokenizer_config(folder, vocabulary, chat_template);
}

Result<TokenizerTables> sentencepiece_tables(const Vocabulary& vocabulary, const SentencePieceRules& rules,
                                             const std::string& chat_template) {
  if (!rules.charsmap.empty()) {
    return fail(ErrorCode::unsupported,
                "writing a tokenizer for GGUF: its normalisation table cannot be written yet; keep the Hugging Face "
                "folder");
  }
  TokenizerTables tables{.model = rules.unigram ? "t5" : "llama", .pre = "default"};
  fill_tables(vocabulary, chat_template, tables, [&](int32_t id) { return written(vocabulary, id); });
  tables.add_space_prefix = rules.prefix != Prefix::none;
  if (rules.prefix == Prefix::first_stretch || rules.prefix_unless_space)
    warn_of_loss("a space at the beginning, or text behind a special token: neither gets one put before it");
  if (rules.cut == Cut::before_space) warn_of_loss("words: none of its tokens goes across a space");
  tables.remove_extra_whitespaces = rules.remove_extra_spaces;
  tables.scores = vocabulary.scores;
  const auto last = -static_cast<float>(vocabulary.merges.size());
  if (rules.by_rank) tables.scores.assign(tables.tokens.size(), last);
  for (size_t rank = 0; rules.by_rank && rank < vocabulary.merges.size(); ++rank) {
    float& score = tables.scores[static_cast<size_t>(vocabulary.merges[rank].merged)];
    score = std::max(score, -static_cast<float>(rank));
  }
  return tables;
}

}  // namespace thimble
