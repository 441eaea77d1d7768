// vocab.txt of BERT and its kin: a token a line; tokenizer_config.json says how text is brought to words.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "files/file.h"
#include "files/json.h"
#include "text/readers.h"
#include "text/word_piece_file.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

// The classes of transformers that read this file with BERT's rules.
constexpr std::array<std::string_view, 9> kClasses = {"",
                                                      "BertTokenizer",
                                                      "DistilBertTokenizer",
                                                      "ElectraTokenizer",
                                                      "MobileBertTokenizer",
                                                      "MPNetTokenizer",
                                                      "LayoutLMTokenizer",
                                                      "SqueezeBertTokenizer",
                                                      "RetriBertTokenizer"};

Result<Json> settings_of(const fs::path& folder) {
  const fs::path path = folder / "tokenizer_config.json";
  if (!is_file(path.string())) return Json::object();
  Json config = TRY(read_json_file(path.string()));
  if (!config.is_object()) return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", path.string());
  return config;
}

void take_text(const Json& config, const char* key, std::string& to) {
  const auto found = config.find(key);
  if (found == config.end()) return;
  const Json& text = found->is_object() ? found->value("content", Json()) : *found;
  if (text.is_string()) to = text.get<std::string>();
}

std::optional<bool> flag(const Json& config, const char* key) {
  const auto found = config.find(key);
  return found != config.end() && found->is_boolean() ? std::optional(found->get<bool>()) : std::nullopt;
}

Result<void> apply(const Json& config, const std::string& path, WordPieceFile& file) {
  std::string name;
  take_text(config, "tokenizer_class", name);
  std::string_view base = name;
  if (base.ends_with("Fast")) base.remove_suffix(4);
  if (std::ranges::find(kClasses, base) == kClasses.end())
    return fail(
        ErrorCode::unsupported,
        "reading {}: the tokenizer_class '{}' in tokenizer_config.json does not cut words as BERT does; save the "
        "tokenizer as tokenizer.json (transformers' save_pretrained does)",
        path, name);
  if (!flag(config, "do_basic_tokenize").value_or(true))
    return fail(ErrorCode::unsupported, "reading {}: do_basic_tokenize: false is not supported", path);
  if (base == "MPNetTokenizer")
    file.unknown = "[UNK]", file.begin = "<s>", file.end = "</s>", file.padding = "<pad>", file.mask = "<mask>";
  file.lowercase = flag(config, "do_lower_case").value_or(true);
  file.spaces_chinese = flag(config, "tokenize_chinese_chars").value_or(true);
  file.strips_accents = flag(config, "strip_accents");
  take_text(config, "unk_token", file.unknown);
  take_text(config, "cls_token", file.begin);
  take_text(config, "sep_token", file.end);
  take_text(config, "pad_token", file.padding);
  take_text(config, "mask_token", file.mask);
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_vocab_txt(const std::string& path) {
  WordPieceFile file;
  CHECK_OK(apply(TRY(settings_of(fs::path(path).parent_path())), path, file));
  const std::string text = TRY(read_text_file(path));
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line(text.data() + at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    file.tokens.emplace_back(line);
    at = end + 1;
  }
  return parse_tokenizer_json(path, word_piece_json(file));
}

}  // namespace thimble
