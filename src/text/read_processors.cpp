// The post-processors of tokenizer.json: what stands before and after a text.
#include <algorithm>
#include <array>
#include <filesystem>

#include "text/json_tokenizer.h"
#include "text/tokenizer_config.h"

namespace thimble {
namespace {

namespace dom = simdjson::dom;

using Ids = std::vector<int32_t>;

Failure no_token(const JsonTokenizer& json, std::string_view text) {
  return fail(ErrorCode::corrupt, "reading {}: the post-processor's token '{}' is not among the tokens", json.path,
              text);
}

// ["[SEP]", 102]
Result<int32_t> named_token(const JsonTokenizer& json, const dom::object& part, std::string_view key,
                            const SpecialTokens& specials) {
  dom::array pair;
  std::string_view text;
  if (part.at_key(key).get(pair) != simdjson::SUCCESS || pair.at(0).get(text) != simdjson::SUCCESS)
    return fail(ErrorCode::corrupt, "reading {}: the post-processor has no '{}': [token, id]", json.path, key);
  const int32_t id = specials.find(text);
  return id < 0 ? Result<int32_t>(no_token(json, text)) : id;
}

// The ids that a template's token stands for; without a list of its own, the token of its name.
Result<Ids> template_ids(const JsonTokenizer& json, const dom::object& part, std::string_view name,
                         const SpecialTokens& specials) {
  dom::array list;
  Ids ids;
  if (part.at_key("special_tokens").at_key(name).at_key("ids").get(list) == simdjson::SUCCESS) {
    for (const dom::element item : list) {
      int64_t id = -1;
      if (item.get(id) != simdjson::SUCCESS || id < 0 || id >= TokenTable::kMaxTokens) return no_token(json, name);
      ids.push_back(static_cast<int32_t>(id));
    }
    return ids;
  }
  const int32_t id = specials.find(name);
  return id < 0 ? Result<Ids>(no_token(json, name)) : Ids{id};
}

Result<void> read_template(const JsonTokenizer& json, const dom::object& part, const SpecialTokens& specials,
                           Ids& before, Ids& after) {
  dom::array single;
  if (part.at_key("single").get(single) != simdjson::SUCCESS)
    return fail(ErrorCode::corrupt, "reading {}: a TemplateProcessing has no list 'single'", json.path);
  bool seen = false;
  for (const dom::element item : single) {
    dom::object entry, special;
    if (item.get(entry) != simdjson::SUCCESS) continue;
    if (entry.at_key("SpecialToken").get(special) != simdjson::SUCCESS) {
      if (seen) return unsupported_part(json, "post-processor", "a text that stands there twice", "one");
      seen = true;
      continue;
    }
    const Ids ids = TRY(template_ids(json, part, text_of(special, "id"), specials));
    Ids& to = seen ? after : before;
    to.insert(to.end(), ids.begin(), ids.end());
  }
  return {};
}

// A processor goes around what those before it have put there.
void wrap(const Ids& more_before, const Ids& more_after, Ids& before, Ids& after) {
  before.insert(before.begin(), more_before.begin(), more_before.end());
  after.insert(after.end(), more_after.begin(), more_after.end());
}

}  // namespace

Result<void> read_processors(const JsonTokenizer& json, Vocabulary& vocabulary) {
  SpecialTokens specials;
  specials.build(vocabulary.tokens);
  Ids before, after;
  for (const dom::object& part : json.processors) {
    const std::string_view type = text_of(part, "type");
    if (type == "TemplateProcessing") {
      Ids template_before, template_after;
      CHECK_OK(read_template(json, part, specials, template_before, template_after));
      wrap(template_before, template_after, before, after);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      wrap({TRY(named_token(json, part, "cls", specials))}, {TRY(named_token(json, part, "sep", specials))}, before,
           after);
    } else if (type != "ByteLevel") {  // that one moves offsets only
      return unsupported_part(json, "post-processor", type,
                              "BertProcessing, ByteLevel, RobertaProcessing, TemplateProcessing and Sequences of them");
    }
  }
  for (const Ids* ids : {&before, &after})
    for (const int32_t id : *ids)
      if (id >= vocabulary.tokens.size()) return no_token(json, fmt::format("{}", id));
  if (!before.empty()) vocabulary.bos = before.front(), vocabulary.adds_bos = true;
  if (!after.empty()) vocabulary.eos = after.back(), vocabulary.adds_eos = true;
  // Whatever the files beside it call the beginning and the end of a text.
  vocabulary.beginning = before, vocabulary.ending = after;
  return read_tokenizer_config(std::filesystem::path(json.path).parent_path().string(), vocabulary);
}

}  // namespace thimble
