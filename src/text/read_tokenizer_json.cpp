// tokenizer.json of Hugging Face tokenizers: a model (BPE or Unigram) with its normalizers, pre-tokenizers and
// post-processors. Which of thimble's tokenizers it is depends on them: ByteLevel means byte-level BPE.
#include <algorithm>
#include <filesystem>

#include "files/file.h"
#include "text/json_tokenizer.h"
#include "text/tokenizer_config.h"

namespace thimble {

namespace dom = simdjson::dom;

namespace {

constexpr uint64_t kMaxBytes = 256u << 20;

// The parts of a component that may be absent, one part or a Sequence of them.
void flatten(const dom::object& root, std::string_view key, std::string_view list_key,
             std::vector<dom::object>& parts) {
  dom::object part;
  if (root.at_key(key).get(part) != simdjson::SUCCESS) return;
  dom::array list;
  if (text_of(part, "type") != "Sequence" || part.at_key(list_key).get(list) != simdjson::SUCCESS) {
    parts.push_back(part);
    return;
  }
  for (const dom::element item : list) {
    dom::object inner;
    if (item.get(inner) == simdjson::SUCCESS) parts.push_back(inner);
  }
}

Result<void> read_added(const dom::object& root, JsonTokenizer& json) {
  dom::array list;
  if (root.at_key("added_tokens").get(list) != simdjson::SUCCESS) return {};
  for (const dom::element item : list) {
    dom::object token;
    int64_t id = -1;
    std::string_view text;
    if (item.get(token) != simdjson::SUCCESS || token.at_key("id").get(id) != simdjson::SUCCESS ||
        token.at_key("content").get(text) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) {
      return fail(ErrorCode::corrupt, "reading {}: added token {} has no valid id and content", json.path,
                  json.added.size());
    }
    if (flag_of(token, "single_word", false)) {
      return fail(ErrorCode::unsupported, "reading {}: the added token '{}' is single_word, which is not supported",
                  json.path, text);
    }
    const auto at = static_cast<int32_t>(id);
    json.added.push_back({at,
                          text,
                          flag_of(token, "special", false) ? TokenKind::control : TokenKind::user_defined,
                          {at, flag_of(token, "lstrip", false), flag_of(token, "rstrip", false)}});
  }
  std::ranges::stable_sort(json.added, {}, &JsonTokenizer::Added::id);
  return {};
}

bool is_byte_level(const JsonTokenizer& json) {
  const auto byte_level = [](const dom::object& part) { return text_of(part, "type") == "ByteLevel"; };
  return std::ranges::any_of(json.pre_tokenizers, byte_level) || std::ranges::any_of(json.decoders, byte_level);
}

std::optional<int32_t> find_special(const Vocabulary& vocabulary, std::string_view text) {
  SpecialTokens specials;
  specials.build(vocabulary.tokens);
  const int32_t id = specials.find(text);
  return id < 0 ? std::nullopt : std::optional(id);
}

}  // namespace

bool JsonTokenizer::is_added(int32_t id) const { return std::ranges::binary_search(added, id, {}, &Added::id); }

std::string_view text_of(const dom::object& object, std::string_view key, std::string_view otherwise) {
  std::string_view text;
  return object.at_key(key).get(text) == simdjson::SUCCESS ? text : otherwise;
}

bool flag_of(const dom::object& object, std::string_view key, bool otherwise) {
  bool flag = otherwise;
  return object.at_key(key).get(flag) == simdjson::SUCCESS ? flag : otherwise;
}

Failure unsupported_part(const JsonTokenizer& json, std::string_view what, std::string_view type,
                         std::string_view known) {
  return fail(ErrorCode::unsupported, "reading {}: the {} '{}' is not supported; supported are {}", json.path, what,
              type, known);
}

Result<void> for_each_merge(const JsonTokenizer& json,
                            const std::function<Result<void>(std::string_view, std::string_view)>& visit) {
  dom::array merges;
  if (json.model.at_key("merges").get(merges) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: the BPE model has no list 'merges'", json.path);
  }
  size_t rank = 0;
  for (const dom::element merge : merges) {
    std::string_view both, left, right;
    dom::array pair;
    if (merge.get(both) == simdjson::SUCCESS) {
      const size_t space = both.find(' ');
      left = both.substr(0, space);
      if (space != std::string_view::npos) right = both.substr(space + 1);
    } else if (merge.get(pair) == simdjson::SUCCESS && pair.size() == 2) {
      if (pair.at(0).get(left) != simdjson::SUCCESS || pair.at(1).get(right) != simdjson::SUCCESS) left = {};
    }
    if (left.empty() || right.empty()) {
      return fail(ErrorCode::corrupt, "reading {}: merge {} is not two tokens", json.path, rank);
    }
    CHECK_OK(visit(left, right));
    ++rank;
  }
  return {};
}

Result<void> read_processors(const JsonTokenizer& json, Vocabulary& vocabulary) {
  for (const dom::object& part : json.processors) {
    dom::array single;
    if (text_of(part, "type") != "TemplateProcessing" || part.at_key("single").get(single) != simdjson::SUCCESS)
      continue;
    bool before = true;
    for (const dom::element item : single) {
      dom::object entry, special;
      if (item.get(entry) != simdjson::SUCCESS) continue;
      if (entry.at_key("SpecialToken").get(special) != simdjson::SUCCESS) {
        before = false;
        continue;
      }
      const auto id = find_special(vocabulary, text_of(special, "id"));
      if (before && id) vocabulary.bos = id, vocabulary.adds_bos = true;
      if (!before && id) vocabulary.eos = id, vocabulary.adds_eos = true;
    }
  }
  return read_tokenizer_config(std::filesystem::path(json.path).parent_path().string(), vocabulary);
}

Result<std::unique_ptr<Tokenizer>> read_tokenizer_json(const std::string& path) {
  simdjson::padded_string text;
  {
    const InputFile file = TRY(InputFile::open(path));
    if (file.size() > kMaxBytes) {
      return fail(ErrorCode::corrupt, "reading {}: {} bytes are more than a tokenizer has", path, file.size());
    }
    text = simdjson::padded_string(file.size());
    CHECK_OK(file.read(0, std::as_writable_bytes(std::span(text.data(), text.size()))));
  }
  dom::parser parser;
  dom::object root;
  if (const auto error = parser.parse(text).get(root); error != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: not a JSON object: {}", path, simdjson::error_message(error));
  }
  JsonTokenizer json;
  json.path = path;
  if (root.at_key("model").get(json.model) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: it has no 'model', so it is no tokenizer.json", path);
  }
  flatten(root, "normalizer", "normalizers", json.normalizers);
  flatten(root, "pre_tokenizer", "pretokenizers", json.pre_tokenizers);
  flatten(root, "post_processor", "processors", json.processors);
  flatten(root, "decoder", "decoders", json.decoders);
  CHECK_OK(read_added(root, json));
  const std::string_view type = text_of(json.model, "type", "BPE");
  if (type != "BPE" && type != "Unigram") return unsupported_part(json, "model", type, "BPE and Unigram");
  return type == "BPE" && is_byte_level(json) ? read_json_byte_bpe(json) : read_json_sentencepiece(json);
}

Result<std::string> decode_base64(std::string_view text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (char c : text) {
    if (c == '=') break;
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (value < 0) return fail(ErrorCode::corrupt, "decoding base64: unexpected character '{}'", c);
    bits = (bits << 6) | static_cast<uint32_t>(value);
    if ((count += 6) >= 8) bytes += static_cast<char>((bits >> (count -= 8)) & 0xff);
  }
  return bytes;
}

}  // namespace thimble
