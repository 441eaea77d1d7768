#include "models/gguf_metadata.h"

#include <algorithm>
#include <array>
#include <cmath>

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

void add_rope(const Architecture& a, const std::string& prefix, GgufWriter& writer) {
  using Kind = RopeScaling::Kind;
  writer.add_integer(prefix + "rope.dimension_count", static_cast<uint32_t>(a.head_dim));
  writer.add_float(prefix + "rope.freq_base", static_cast<float>(a.rope_base));
  const RopeScaling& s = a.rope_scaling;
  if (s.kind != Kind::linear && s.kind != Kind::yarn) return;  // llama3 is the tensor rope_freqs.weight
  writer.add_string(prefix + "rope.scaling.type", s.kind == Kind::linear ? "linear" : "yarn");
  writer.add_float(prefix + "rope.scaling.factor", static_cast<float>(s.factor));
  if (s.kind == Kind::linear) return;
  writer.add_integer(prefix + "rope.scaling.original_context_length", static_cast<uint32_t>(s.original_context));
  writer.add_float(prefix + "rope.scaling.yarn_beta_fast", static_cast<float>(s.beta_fast));
  writer.add_float(prefix + "rope.scaling.yarn_beta_slow", static_cast<float>(s.beta_slow));
  if (s.attention_factor != 0) {
    // llama.cpp multiplies this with yarn's own scale.
    const double own = 0.1 * std::log(s.factor) + 1;
    writer.add_float(prefix + "rope.scaling.attn_factor", static_cast<float>(s.attention_factor / own));
  }
}

void add_sizes(const Architecture& a, GgufWriter& writer) {
  const std::string prefix = gguf_family(a) + ".";
  const auto add = [&](std::string_view key, int64_t value) {
    writer.add_integer(prefix + std::string(key), static_cast<uint32_t>(value));
  };
  add("vocab_size", a.vocab);
  add("context_length", a.context);
  add("embedding_length", a.width);
  add("block_count", a.layers);
  add("feed_forward_length", a.ffn_width);
  add("attention.head_count", a.heads);
  add("attention.head_count_kv", a.kv_heads);
  if (a.head_dim * a.heads != a.width) {
    add("attention.key_length", a.head_dim);
    add("attention.value_length", a.head_dim);
  }
  if (a.window > 0) add("attention.sliding_window", a.window);
  const bool rms = a.norm == Architecture::Norm::rms;
  writer.add_float(prefix + (rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon"),
                   static_cast<float>(a.norm_epsilon));
  if (a.position == Architecture::Position::rope) add_rope(a, prefix, writer);
}

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
  add_id("tokenizer.ggml.unknown_token_id", t.unknown);
  add_id("tokenizer.ggml.padding_token_id", t.padding);
  writer.add_bool("tokenizer.ggml.add_bos_token", t.add_bos);
  writer.add_bool("tokenizer.ggml.add_eos_token", t.add_eos);
  writer.add_bool("tokenizer.ggml.add_space_prefix", t.add_space_prefix);
  if (t.remove_extra_whitespaces) writer.add_bool("tokenizer.ggml.remove_extra_whitespaces", true);
  if (!t.chat_template.empty()) writer.add_string("tokenizer.chat_template", t.chat_template);
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

std::string gguf_family(const Architecture& a) { return a.family == "mistral" ? "llama" : a.family; }

Result<void> add_metadata(const Architecture& a, const GgufWriteOptions& options, GgufWriter& writer) {
  writer.add_string("general.architecture", gguf_family(a));
  writer.add_string("general.type", "model");
  if (!options.name.empty()) writer.add_string("general.name", options.name);
  for (const FileType& type : kFileTypes) {
    if (options.codec && options.codec->name == type.codec) writer.add_integer("general.file_type", type.number);
  }
  writer.add_integer("general.quantization_version", 2);
  add_sizes(a, writer);
  if (options.tokenizer) {
    CHECK_OK(check_vocabulary(options.tokenizer->tokens.size(), a.vocab, "the tokenizer"));
    add_tokenizer(*options.tokenizer, writer);
  } else if (options.tokenizer_source) {
    const GgufFile& source = *options.tokenizer_source;
    CHECK_OK(check_vocabulary(TRY(source.get<GgufArray>("tokenizer.ggml.tokens")).count, a.vocab, source.path()));
    for (const GgufValue& value : source.values()) {
      if (value.key.starts_with("tokenizer.") || is_description(value.key)) writer.copy(source, value);
    }
  } else {
    writer.add_string("tokenizer.ggml.model", "no_vocab");
  }
  return {};
}

}  // namespace thimble
