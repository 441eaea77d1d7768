// What the two readers of tokenizer.json share.
#pragma once

#include <simdjson.h>

#include <functional>
#include <string>
#include <vector>

#include "text/readers.h"
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
    TokenStrip strip;
  };
  std::vector<Added> added;  // sorted by id

  bool is_added(int32_t id) const;
};

// Fields that may be absent or null.
std::string_view text_of(const JsonTokenizer::Object& object, std::string_view key, std::string_view otherwise = "");
bool flag_of(const JsonTokenizer::Object& object, std::string_view key, bool otherwise);
Failure unsupported_part(const JsonTokenizer& json, std::string_view what, std::string_view type,
                         std::string_view known);
// The merges of the model, "a b" or ["a", "b"].
Result<void> for_each_merge(const JsonTokenizer& json,
                            const std::function<Result<void>(std::string_view, std::string_view)>& visit);
// Where a TemplateProcessing puts bos and eos; then tokenizer_config.json beside the file.
Result<void> read_processors(const JsonTokenizer& json, Vocabulary& vocabulary);
Result<std::string> decode_base64(std::string_view text);

Result<std::unique_ptr<Tokenizer>> read_json_byte_bpe(const JsonTokenizer& json);
Result<std::unique_ptr<Tokenizer>> read_json_sentencepiece(const JsonTokenizer& json);

}  // namespace thimble
