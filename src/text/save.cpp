#include "text/save.h"

#include <algorithm>
#include <filesystem>

#include "core/warnings.h"
#include "text/byte_characters.h"
#include "text/save_parts.h"
#include "text/tokenizer_config.h"

namespace thimble {

namespace {

bool is_literal(TokenKind kind) { return kind != TokenKind::normal && kind != TokenKind::byte; }

// A token as files write it: GPT-2's characters, but special tokens as they are.
std::string written(const Vocabulary& vocabulary, int32_t id) {
  std::string text;
  if (is_literal(vocabulary.tokens.kind(id))) return std::string(vocabulary.tokens.bytes(id));
  append_characters_of_bytes(vocabulary.tokens.bytes(id), text);
  return text;
}

std::string split_json(std::string_view pattern) {
  return fmt::format(R"({{"type":"Split","pattern":{{"Regex":{}}},"behavior":"Isolated","invert":false}})",
                     json_string(pattern));
}

// In the words that other programs know, where there are some: Digits, and ByteLevel for GPT-2's pattern.
std::string pre_tokenizer_json(const ByteBpeRules& rules) {
  std::string list;
  bool use_regex = false;
  const auto stages = rules.pre.stages();
  for (size_t i = 0; i < stages.size(); ++i) {
    const std::string& source = stages[i].source();
    use_regex = i + 1 == stages.size() && source == gpt2_pattern();
    if (use_regex) break;
    list += source == digit_pattern() ? R"({"type":"Digits","individual_digits":true})" : split_json(source);
    list += ",";
  }
  list += fmt::format(R"({{"type":"ByteLevel","add_prefix_space":{},"trim_offsets":true,"use_regex":{}}})",
                      rules.prefix_space, use_regex);
  return stages.size() == 1 && use_regex ? list : fmt::format(R"({{"type":"Sequence","pretokenizers":[{}]}})", list);
}

}  // namespace

std::string added_tokens_json(const Vocabulary& vocabulary) {
  std::string list;
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const TokenKind kind = vocabulary.tokens.kind(id);
    if (!is_literal(kind) || kind == TokenKind::unused || vocabulary.tokens.bytes(id).empty()) continue;
    TokenRules rules{id};
    for (const TokenRules& known : vocabulary.rules) {
      if (known.id == id) rules = known;
    }
    list += fmt::format(
        "{}\n{{\"id\":{},\"content\":{},\"single_word\":{},\"lstrip\":{},\"rstrip\":{},\"normalized\":false,"
        "\"special\":{}}}",
        list.empty() ? "" : ",", id, json_string(vocabulary.tokens.bytes(id)), rules.single_word, rules.left,
        rules.right, kind != TokenKind::user_defined);
  }
  return fmt::format("[{}]", list);
}

std::string post_processor_json(const Vocabulary& vocabulary, std::string_view otherwise) {
  const bool bos = vocabulary.adds_bos && vocabulary.bos, eos = vocabulary.adds_eos && vocabulary.eos;
  if (!bos && !eos) return std::string(otherwise);
  std::string before, after, tokens;
  const auto add = [&](int32_t id, std::string& to) {
    const std::string text = json_string(vocabulary.tokens.bytes(id));
    to += fmt::format(R"({}{{"SpecialToken":{{"id":{},"type_id":0}}}})", to.empty() ? "" : ",", text);
    const std::string entry = fmt::format(R"({}:{{"id":{},"ids":[{}],"tokens":[{}]}})", text, text, id, text);
    if (tokens.find(entry) == std::string::npos) tokens += fmt::format("{}{}", tokens.empty() ? "" : ",", entry);
  };
  const auto add_all = [&](const std::vector<int32_t>& several, std::optional<int32_t> one, std::string& to) {
    for (const int32_t id : several.empty() ? std::vector<int32_t>{*one} : several) add(id, to);
  };
  if (bos) add_all(vocabulary.beginning, vocabulary.bos, before);
  if (eos) add_all(vocabulary.ending, vocabulary.eos, after);
  const auto sequence = [&](char name, int type) {
    return fmt::format(R"({}{}{{"Sequence":{{"id":"{}","type_id":{}}}}}{}{})", before, bos ? "," : "", name, type,
                       eos ? "," : "", after);
  };
  return fmt::format(R"({{"type":"TemplateProcessing","single":[{}],"pair":[{},{}],"special_tokens":{{{}}}}})",
                     sequence('A', 0), sequence('A', 0), sequence('B', 1), tokens);
}

void warn_of_loss(std::string_view what) {
  warn(
      fmt::format("GGUF has no place for what this tokenizer does with {}: such texts have other tokens there, in "
                  "llama.cpp as here",
                  what));
}

void fill_tables(const Vocabulary& vocabulary, const std::string& chat_template, TokenizerTables& tables,
                 const std::function<std::string(int32_t)>& text) {
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const bool hole = vocabulary.tokens.bytes(id).empty();
    tables.tokens.push_back(hole ? fmt::format("[PAD{}]", id) : text(id));
    tables.types.push_back(static_cast<int32_t>(hole ? TokenKind::unused : vocabulary.tokens.kind(id)));
  }
  // GGUF has one token for what is called the beginning and for what is put there.
  const bool other = vocabulary.adds_bos && vocabulary.beginning.size() == 1;
  tables.bos = other ? vocabulary.beginning.front() : vocabulary.bos;
  tables.eos = vocabulary.eos;
  for (const int32_t id : vocabulary.ends)
    if (id != vocabulary.eos && std::ranges::find(tables.ends, id) == tables.ends.end()) tables.ends.push_back(id);
  if (vocabulary.adds_bos && vocabulary.beginning.size() > 1)
    warn_of_loss(fmt::format("the {} tokens that stand before a text (one does)", vocabulary.beginning.size()));
  if (!vocabulary.rules.empty()) warn_of_loss("spaces beside added tokens that belong to them (lstrip, rstrip)");
  tables.unknown = vocabulary.unknown;
  tables.padding = vocabulary.padding;
  tables.add_bos = vocabulary.adds_bos;
  tables.add_eos = vocabulary.adds_eos;
  tables.chat_template = chat_template;
}

Result<void> save_byte_bpe(const std::string& folder, const Vocabulary& vocabulary, const ByteBpeRules& rules,
                           const std::string& chat_template) {
  JsonOutput out(TRY(OutputFile::create((std::filesystem::path(folder) / "tokenizer.json").string())));
  out.raw(fmt::format("{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":{},\n",
                      added_tokens_json(vocabulary)));
  out.raw(fmt::format("\"normalizer\":{},\n\"pre_tokenizer\":{},\n", rules.nfc ? R"({"type":"NFC"})" : "null",
                      pre_tokenizer_json(rules)));
  constexpr std::string_view kByteLevel =
      R"({"type":"ByteLevel","add_prefix_space":true,"trim_offsets":false,"use_regex":true})";
  out.raw(fmt::format("\"post_processor\":{},\n\"decoder\":{},\n", post_processor_json(vocabulary, kByteLevel),
                      kByteLevel));
  out.raw(fmt::format(
      "\"model\":{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,\"continuing_subword_prefix\":null,"
      "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":{},\n\"vocab\":{{\n",
      rules.ignores_merges));
  bool first = true;
  for (int32_t id = 0; id < vocabulary.tokens.size(); ++id) {
    if (vocabulary.tokens.bytes(id).empty()) continue;
    CHECK_OK(out.separate(first));
    out.string(written(vocabulary, id));
    out.raw(fmt::format(":{}", id));
  }
  out.raw("},\n\"merges\":[\n");
  first = true;
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const Merge& merge = vocabulary.merges[rank];
    CHECK_OK(out.separate(first));
    out.string(fmt::format("{} {}", written(vocabulary, merge.left), written(vocabulary, merge.right)));
  }
  out.raw("]}}\n");
  CHECK_OK(out.commit());
  return write_tokenizer_config(folder, vocabulary, chat_template);
}

Result<TokenizerTables> byte_bpe_tables(const Vocabulary& vocabulary, const ByteBpeRules& rules,
                                        const std::string& chat_template) {
  const NamedPattern* named = rules.pre.named();
  if (!named || rules.prefix_space) {
    return fail(
        ErrorCode::unsupported,
        "writing a tokenizer for GGUF: its pre-tokenizer is none that GGUF has a name for; keep the Hugging Face "
        "folder");
  }
  TokenizerTables tables{.model = "gpt2", .pre = std::string(named->name)};
  if (rules.nfc) warn_of_loss("the normalizer NFC: characters with combining accents");
  fill_tables(vocabulary, chat_template, tables, [&](int32_t id) { return written(vocabulary, id); });
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const Merge& merge = vocabulary.merges[rank];
    tables.merges.push_back(fmt::format("{} {}", written(vocabulary, merge.left), written(vocabulary, merge.right)));
  }
  return tables;
}

}  // namespace thimble
