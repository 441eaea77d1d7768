#include "models/gguf_metadata.h"

#include <algorithm>
#include <array>

#include "models/gguf_config.h"

namespace thimble {
namespace {

// llama.cpp's general.file_type, by codec of the matrices.
struct FileType {
  std::string_view codec;
  uint32_t number;
};
constexpr auto kFileTypes = std::to_array<FileType>({{"f32", 0},
                                                     {"f16", 1},
                                                     {"q4_0", 2},
                                                     {"q4_1", 3},
                                                     {"q8_0", 7},
                                                     {"q5_0", 8},
                                                     {"q5_1", 9},
                                                     {"q2_K", 10},
                                                     {"q3_K", 12},
                                                     {"q4_K", 15},
                                                     {"q5_K", 17},
                                                     {"q6_K", 18},
                                                     {"bf16", 32}});

constexpr const char* kChatTemplate = "tokenizer.chat_template";

void add_tokenizer(const TokenizerTables& t, GgufWriter& writer) {
  const auto add_id = [&](std::string_view key, std::optional<int32_t> id) {
    if (id) writer.add_integer(key, static_cast<uint32_t>(*id));
  };
  writer.add_string("tokenizer.ggml.model", t.model);
  if (!t.pre.empty()) writer.add_string("tokenizer.ggml.pre", t.pre);
  writer.add_strings("tokenizer.ggml.tokens", t.tokens);
  if (!t.scores.empty()) writer.add_floats("tokenizer.ggml.scores", t.scores);
  if (!t.types.empty()) writer.add_integers("tokenizer.ggml.token_type", t.types);
  if (t.merges.size() > 0 || t.model == "gpt2") writer.add_strings("tokenizer.ggml.merges", t.merges);
  add_id("tokenizer.ggml.bos_token_id", t.bos);
  add_id("tokenizer.ggml.eos_token_id", t.eos);
  // llama.cpp has two more by name; the list is for those that know it.
  constexpr std::string_view kMore[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
  for (size_t i = 0; i < std::min(std::size(kMore), t.ends.size()); ++i) add_id(kMore[i], t.ends[i]);
  if (t.ends.size() > std::size(kMore)) writer.add_integers("tokenizer.ggml.eos_token_ids", t.ends);
  add_id("tokenizer.ggml.unknown_token_id", t.unknown);
  add_id("tokenizer.ggml.padding_token_id", t.padding);
  writer.add_bool("tokenizer.ggml.add_bos_token", t.add_bos);
  writer.add_bool("tokenizer.ggml.add_eos_token", t.add_eos);
  writer.add_bool("tokenizer.ggml.add_space_prefix", t.add_space_prefix);
  if (t.remove_extra_whitespaces) writer.add_bool("tokenizer.ggml.remove_extra_whitespaces", true);
  if (!t.chat_template.empty()) writer.add_string(kChatTemplate, t.chat_template);
}

// Licence, authors and the like, which stay true of a converted model.
bool is_description(std::string_view key) {
  constexpr std::string_view kOwn[] = {"general.architecture", "general.type",      "general.name",
                                       "general.file_type",    "general.alignment", "general.quantization_version"};
  return key.starts_with("general.") && std::find(std::begin(kOwn), std::end(kOwn), key) == std::end(kOwn);
}

Result<void> check_vocabulary(uint64_t tokens, int64_t vocab, const std::string& where) {
  if (tokens == static_cast<uint64_t>(vocab)) return {};
  return fail(ErrorCode::invalid_argument,
              "writing GGUF: the vocabulary of {} has {} tokens, the model's embedding {} "
              "rows; pad or cut the vocabulary",
              where, tokens, vocab);
}

}  // namespace

Result<void> add_metadata(const Family& family, const Architecture& a, const GgufWriteOptions& options,
                          GgufWriter& writer) {
  writer.add_string("general.architecture", std::string(family.gguf.architecture));
  writer.add_string("general.type", "model");
  if (!options.name.empty()) writer.add_string("general.name", options.name);
  for (const FileType& type : kFileTypes) {
    if (options.codec && options.codec->name == type.codec) writer.add_integer("general.file_type", type.number);
  }
  writer.add_integer("general.quantization_version", 2);
  CHECK_OK(add_architecture(family, a, writer));
  if (options.tokenizer) {
    CHECK_OK(check_vocabulary(options.tokenizer->tokens.size(), a.vocab, "the tokenizer"));
    add_tokenizer(*options.tokenizer, writer);
  } else if (options.tokenizer_source) {
    const GgufFile& source = *options.tokenizer_source;
    CHECK_OK(check_vocabulary(TRY(source.get<GgufArray>("tokenizer.ggml.tokens")).count, a.vocab, source.path()));
    for (const GgufValue& value : source.values()) {
      if (!options.chat_template.empty() && value.key == kChatTemplate) continue;
      if (value.key.starts_with("tokenizer.") || is_description(value.key)) writer.copy(source, value);
    }
    if (!options.chat_template.empty()) writer.add_string(kChatTemplate, options.chat_template);
  } else {
    writer.add_string("tokenizer.ggml.model", "no_vocab");
  }
  return {};
}

}  // namespace thimble
