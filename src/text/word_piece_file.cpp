#include "text/word_piece_file.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/json_output.h"

namespace thimble {

std::string word_piece_json(const WordPieceFile& file) {
  std::string added, vocabulary, special;
  for (size_t id = 0; id < file.tokens.size(); ++id) {
    const std::string& token = file.tokens[id];
    const std::string text = json_string(token);
    vocabulary += fmt::format("{}{}:{}", id == 0 ? "" : ",\n", text, id);
    if (token == file.begin || token == file.end)
      special +=
          fmt::format(R"({}{}:{{"id":{},"ids":[{}],"tokens":[{}]}})", special.empty() ? "" : ",", text, text, id, text);
    if (token == file.unknown || token == file.begin || token == file.end || token == file.padding ||
        token == file.mask)
      added += fmt::format(
          R"({}{{"id":{},"content":{},"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}})",
          added.empty() ? "" : ",\n", id, text);
  }
  const auto has = [&](const std::string& token) { return std::ranges::find(file.tokens, token) != file.tokens.end(); };
  const auto place = [](const std::string& token) {
    return fmt::format(R"({{"SpecialToken":{{"id":{},"type_id":0}}}})", json_string(token));
  };
  const std::string single =
      fmt::format(R"({}{{"Sequence":{{"id":"A","type_id":0}}}}{})", has(file.begin) ? place(file.begin) + "," : "",
                  has(file.end) ? "," + place(file.end) : "");
  const std::string accents = file.strips_accents ? fmt::format("{}", *file.strips_accents) : "null";
  return fmt::format(
      "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":[{}],\n"
      "\"normalizer\":{{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":{},"
      "\"strip_accents\":{},\"lowercase\":{}}},\n\"pre_tokenizer\":{{\"type\":\"BertPreTokenizer\"}},\n"
      "\"post_processor\":{{\"type\":\"TemplateProcessing\",\"single\":[{}],\"pair\":[],\"special_tokens\":{{{}}}}},\n"
      "\"decoder\":{{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}},\n"
      "\"model\":{{\"type\":\"WordPiece\",\"unk_token\":{},\"continuing_subword_prefix\":\"##\","
      "\"max_input_chars_per_word\":100,\"vocab\":{{{}}}}}}}\n",
      added, file.spaces_chinese, accents, file.lowercase, single, special, json_string(file.unknown), vocabulary);
}

}  // namespace thimble
