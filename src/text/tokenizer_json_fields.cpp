#include "text/tokenizer_json_fields.h"

#include <array>
#include <nlohmann/json.hpp>

namespace thimble {
namespace {

namespace dom = simdjson::dom;
using enum FieldMeaning;

constexpr std::string_view kOffsets = "it is about where tokens stand in a text, which is not asked for",
                           kBatches = "it is about how batches are padded or cut";

// tokenizers 0.23: what its components write.
constexpr auto kNotes = std::to_array<FieldNote>({
    {"version", harmless, "there is one"},
    {"truncation", harmless, kBatches},
    {"padding", harmless, kBatches},
    {"added_tokens"},
    {"normalizer"},
    {"pre_tokenizer"},
    {"post_processor"},
    {"decoder"},
    {"model"},
    {"added.id"},
    {"added.content"},
    {"added.single_word"},
    {"added.lstrip"},
    {"added.rstrip"},
    {"added.normalized"},
    {"added.special"},
    {"BPE.dropout", refused, "merges would be left out at random"},
    {"BPE.unk_token"},
    {"BPE.continuing_subword_prefix"},
    {"BPE.end_of_word_suffix"},
    {"BPE.fuse_unk"},
    {"BPE.byte_fallback"},
    {"BPE.ignore_merges"},
    {"BPE.vocab"},
    {"BPE.merges"},
    {"WordPiece.unk_token"},
    {"WordPiece.continuing_subword_prefix"},
    {"WordPiece.max_input_chars_per_word"},
    {"WordPiece.vocab"},
    {"WordLevel.unk_token"},
    {"WordLevel.vocab"},
    {"Unigram.unk_id"},
    {"Unigram.byte_fallback"},
    {"Unigram.vocab"},
    {"BertNormalizer.clean_text"},
    {"BertNormalizer.handle_chinese_chars"},
    {"BertNormalizer.strip_accents"},
    {"BertNormalizer.lowercase"},
    {"Strip.strip_left"},
    {"Strip.strip_right"},
    {"Strip.content"},
    {"Strip.start"},
    {"Strip.stop"},
    {"Prepend.prepend"},
    {"Replace.pattern"},
    {"Replace.content"},
    {"Precompiled.precompiled_charsmap"},
    {"ByteLevel.add_prefix_space"},
    {"ByteLevel.use_regex"},
    {"ByteLevel.trim_offsets", harmless, kOffsets},
    {"Metaspace.replacement"},
    {"Metaspace.prepend_scheme"},
    {"Metaspace.add_prefix_space"},
    {"Metaspace.split"},
    {"Metaspace.str_rep", harmless, "'replacement' says the same"},
    {"Split.pattern"},
    {"Split.behavior"},
    {"Split.invert"},
    {"Digits.individual_digits"},
    {"Punctuation.behavior"},
    {"CharDelimiterSplit.delimiter"},
    {"FixedLength.length"},
    {"TemplateProcessing.single"},
    {"TemplateProcessing.pair", harmless, "texts come one by one"},
    {"TemplateProcessing.special_tokens"},
    {"BertProcessing.sep"},
    {"BertProcessing.cls"},
    {"RobertaProcessing.sep"},
    {"RobertaProcessing.cls"},
    {"RobertaProcessing.trim_offsets", harmless, kOffsets},
    {"RobertaProcessing.add_prefix_space", harmless, kOffsets},
    {"WordPiece.prefix"},
    {"WordPiece.cleanup"},
    {"BPEDecoder.suffix"},
});

// As is_neutral: null, false, 0, 1, or empty.
bool asks_for_nothing(const dom::element& value) {
  bool flag = false;
  double number = 0;
  std::string_view text;
  dom::array list;
  dom::object object;
  if (value.is_null()) return true;
  if (value.get(flag) == simdjson::SUCCESS) return !flag;
  if (value.get(number) == simdjson::SUCCESS) return number == 0 || number == 1;
  if (value.get(text) == simdjson::SUCCESS) return text.empty();
  if (value.get(list) == simdjson::SUCCESS) return list.begin() == list.end();
  return value.get(object) == simdjson::SUCCESS && object.begin() == object.end();
}

// Fields that ask for something, under the names of the table. An honoured one is left out: where a part has it is a
// matter of the readers.
void add_fields(const dom::object& object, std::string_view place, Json& asked) {
  for (const auto& [key, value] : object) {
    if (key == "type" || asks_for_nothing(value)) continue;
    const std::string name = place.empty() ? std::string(key) : fmt::format("{}.{}", place, key);
    const FieldNote* const note = find_note(kNotes, name);
    if (!note || note->meaning != honoured) asked[name] = true;
  }
}

}  // namespace

std::span<const FieldNote> tokenizer_json_fields() { return kNotes; }

Result<void> check_tokenizer_json(const JsonTokenizer& json, const dom::object& root) {
  Json asked = Json::object();
  add_fields(root, "", asked);
  dom::array added;
  if (root.at_key("added_tokens").get(added) == simdjson::SUCCESS)
    for (const dom::element item : added)
      if (dom::object token; item.get(token) == simdjson::SUCCESS) add_fields(token, "added", asked);
  add_fields(json.model, json.model_type(), asked);
  for (const auto* parts : {&json.normalizers, &json.pre_tokenizers, &json.processors, &json.decoders})
    for (const dom::object& part : *parts) add_fields(part, text_of(part, "type"), asked);
  return check_fields(asked, kNotes, json.path);
}

}  // namespace thimble
