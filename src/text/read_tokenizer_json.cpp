// tokenizer.json of Hugging Face tokenizers: a model with its normalizers, pre-tokenizers, post-processors and
// decoders. Two kinds that most language models are of have tokenizers of their own, which take a text piece by piece:
// byte-level BPE and SentencePiece's BPE. The others are worked through step by step (pipeline/).
#include <algorithm>
#include <filesystem>
#include <new>

#include "files/file.h"
#include "text/json_tokenizer.h"
#include "text/pipeline/pipeline.h"
#include "text/tokenizer_json_fields.h"

namespace thimble {

namespace dom = simdjson::dom;

namespace {

constexpr uint64_t kMaxBytes = 128u << 20;

// The parts of a component that may be absent: one part, or those of a Sequence, which may lie in another.
Result<void> flatten(const JsonTokenizer& json, const dom::object& root, std::string_view key,
                     std::string_view list_key, std::vector<dom::object>& parts) {
  constexpr int kDeepest = 8;
  constexpr size_t kMost = 64;
  dom::object part;
  if (root.at_key(key).get(part) != simdjson::SUCCESS) return {};
  std::vector<std::pair<dom::object, int>> open{{part, 0}};
  while (!open.empty()) {
    const auto [next, level] = open.back();
    open.pop_back();
    if (text_of(next, "type") != "Sequence") {
      parts.push_back(next);
    } else {
      dom::array list;
      if (next.at_key(list_key).get(list) != simdjson::SUCCESS)
        return fail(ErrorCode::corrupt, "reading {}: the Sequence of the {} has no list '{}'", json.path, key,
                    list_key);
      const size_t before = open.size();
      for (const dom::element item : list) {
        dom::object inner;
        if (item.get(inner) == simdjson::SUCCESS) open.emplace_back(inner, level + 1);
      }
      std::reverse(open.begin() + static_cast<std::ptrdiff_t>(before), open.end());
    }
    if (level > kDeepest || parts.size() + open.size() > kMost)
      return fail(ErrorCode::unsupported, "reading {}: the {} has more than {} parts, or lies more than {} deep",
                  json.path, key, kMost, kDeepest);
  }
  return {};
}

Result<void> read_listed(const dom::object& root, JsonTokenizer& json) {
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
    const auto at = static_cast<int32_t>(id);
    const bool special = flag_of(token, "special", false);
    json.added.push_back(
        {at,
         text,
         special ? TokenKind::control : TokenKind::user_defined,
         {at, flag_of(token, "lstrip", false), flag_of(token, "rstrip", false), flag_of(token, "single_word", false)},
         flag_of(token, "normalized", !special)});
  }
  return {};
}

// Those of the file, then those of tokenizer_config.json: of the same token that one's flags hold. Where it has another
// text for an id, the file's stays.
Result<void> read_added(const dom::object& root, JsonTokenizer& json) {
  CHECK_OK(read_listed(root, json));
  std::ranges::stable_sort(json.added, {}, &JsonTokenizer::Added::id);
  json.of_config = TRY(read_added_decoder(std::filesystem::path(json.path).parent_path().string()));
  const auto listed = static_cast<std::ptrdiff_t>(json.added.size());
  for (const auto& [id, token] : json.of_config) {
    const JsonTokenizer::Added added{id,
                                     token.text,
                                     token.special ? TokenKind::control : TokenKind::user_defined,
                                     {id, token.left_strip, token.right_strip, token.single_word},
                                     token.normalized};
    const auto end = json.added.begin() + listed;
    const auto there = std::ranges::lower_bound(json.added.begin(), end, id, {}, &JsonTokenizer::Added::id);
    if (there == end || there->id != id)
      json.added.push_back(added);
    else if (there->text == token.text)
      *there = added;
  }
  std::ranges::stable_sort(json.added, {}, &JsonTokenizer::Added::id);
  return {};
}

// `kept`: the text, where it is no file.
Result<std::unique_ptr<Tokenizer>> parse_tokenizer(const std::string& path, const simdjson::padded_string& text,
                                                   std::string kept) {
  dom::parser parser;
  dom::object root;
  if (const auto error = parser.parse(text).get(root); error != simdjson::SUCCESS) {
    if (error == simdjson::MEMALLOC)
      return fail(ErrorCode::over_budget, "reading {}: it takes more memory than there is; give a larger --memory",
                  path);
    return fail(ErrorCode::corrupt, "reading {}: not a JSON object: {}", path, simdjson::error_message(error));
  }
  JsonTokenizer json;
  json.path = path;
  if (root.at_key("model").get(json.model) != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "reading {}: it has no 'model', so it is no tokenizer.json", path);
  }
  CHECK_OK(flatten(json, root, "normalizer", "normalizers", json.normalizers));
  CHECK_OK(flatten(json, root, "pre_tokenizer", "pretokenizers", json.pre_tokenizers));
  CHECK_OK(flatten(json, root, "post_processor", "processors", json.processors));
  CHECK_OK(flatten(json, root, "decoder", "decoders", json.decoders));
  CHECK_OK(read_added(root, json));
  CHECK_OK(check_tokenizer_json(json, root));
  if (is_byte_bpe(json)) return read_json_byte_bpe(json);
  if (!is_sentencepiece(json)) return pipeline::read(json, std::move(kept));
  auto plain = TRY(read_json_sentencepiece(json));
  if (!normalizes_added(json)) return plain;
  return pipeline::read(json, std::move(kept), std::move(plain));
}

}  // namespace

bool JsonTokenizer::is_added(int32_t id) const { return std::ranges::binary_search(added, id, {}, &Added::id); }
std::string_view JsonTokenizer::model_type() const { return text_of(model, "type", "BPE"); }

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

Result<std::unique_ptr<Tokenizer>> read_tokenizer_json(const std::string& path) {
  const InputFile file = TRY(InputFile::open(path));
  if (file.size() > kMaxBytes)
    return fail(ErrorCode::corrupt, "reading {}: {} bytes are more than a tokenizer has", path, file.size());
  simdjson::padded_string text(file.size());
  if (!text.data()) throw std::bad_alloc();
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(text.data(), text.size()))));
  return parse_tokenizer(path, text, "");
}

Result<std::unique_ptr<Tokenizer>> parse_tokenizer_json(const std::string& path, std::string text) {
  const simdjson::padded_string padded(text);
  if (!padded.data()) throw std::bad_alloc();
  return parse_tokenizer(path, padded, std::move(text));
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
