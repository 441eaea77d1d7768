// What the two readers of tokenizer.json share.
#pragma once

#include <simdjson.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "text/readers.h"
#include "text/tokenizer_config.h"
#include "text/vocabulary.h"

namespace thimble {

// A tokenizer.json, parsed, with the parts of its sequences in one list each.
struct JsonTokenizer {
  using Object = simdjson::dom::object;

  std::string path;
  Object model;
  std::vector<Object> normalizers, pre_tokenizers, processors, decoders;
  struct Added {
    int32_t id;
    std::string_view text;
    TokenKind kind;
    TokenRules rules;
    bool normalized;  // looked for after normalizing
  };
  std::vector<Added> added;                 // sorted by id
  std::map<int32_t, AddedToken> of_config;  // tokenizer_config.json's, to which some of these refer

  bool is_added(int32_t id) const;
  std::string_view model_type() const;  // "BPE" where it does not say
};

// Fields that may be absent or null.
std::string_view text_of(const JsonTokenizer::Object& object, std::string_view key, std::string_view otherwise = "");
bool flag_of(const JsonTokenizer::Object& object, std::string_view key, bool otherwise);
Failure unsupported_part(const JsonTokenizer& json, std::string_view what, std::string_view type,
                         std::string_view known);
// The entry of a table by its `type`; `unsupported`, with the types of the table, when there is none.
template <class Entries>
Result<const typename Entries::value_type*> find_part(const JsonTokenizer& json, std::string_view what,
                                                      const Entries& entries, std::string_view type) {
  std::string known;
  for (const auto& entry : entries) {
    if (entry.type == type) return &entry;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", entry.type);
  }
  return unsupported_part(json, what, type, known);
}
// The merges of the model, "a b" or ["a", "b"].
Result<void> for_each_merge(const JsonTokenizer& json,
                            const std::function<Result<void>(std::string_view, std::string_view)>& visit);
// What the post-processors put before and after a text; then tokenizer_config.json beside the file.
Result<void> read_processors(const JsonTokenizer& json, Vocabulary& vocabulary);
Result<std::string> decode_base64(std::string_view text);

// Whether a tokenizer is of the kind, and the reader of that kind.
bool is_byte_bpe(const JsonTokenizer& json);
Result<std::unique_ptr<Tokenizer>> read_json_byte_bpe(const JsonTokenizer& json);
bool is_sentencepiece(const JsonTokenizer& json);
bool normalizes_added(const JsonTokenizer& json);
Result<std::unique_ptr<Tokenizer>> read_json_sentencepiece(const JsonTokenizer& json);

}  // namespace thimble
