// Every metadata key that llama.cpp documents is honoured, harmless with a reason, warned of, or refused by name.
#include "models/gguf_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/warnings.h"
#include "files/gguf_writer.h"
#include "memory_model.h"
#include "models/gguf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// Keys.LLM and those under it, of gguf 0.19.
constexpr const char* kModelKeys[] = {
    "vocab_size",
    "context_length",
    "embedding_length",
    "embedding_length_out",
    "features_length",
    "block_count",
    "leading_dense_block_count",
    "feed_forward_length",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_chunk_feed_forward_length",
    "use_parallel_residual",
    "tensor_data_layout",
    "expert_count",
    "expert_used_count",
    "expert_shared_count",
    "expert_group_count",
    "expert_group_used_count",
    "expert_weights_scale",
    "expert_weights_norm",
    "expert_gating_func",
    "expert_group_scale",
    "experts_per_group",
    "moe_every_n_layers",
    "moe_latent_size",
    "nextn_predict_layers",
    "n_deepstack_layers",
    "pooling_type",
    "logit_scale",
    "decoder_start_token_id",
    "decoder_block_count",
    "attn_logit_softcapping",
    "router_logit_softcapping",
    "final_logit_softcapping",
    "swin_norm",
    "rescale_every_n_layers",
    "time_mix_extra_dim",
    "time_decay_extra_dim",
    "residual_scale",
    "embedding_scale",
    "token_shift_count",
    "interleave_moe_layer_step",
    "full_attention_interval",
    "activation_sparsity_scale",
    "altup.active_idx",
    "altup.num_inputs",
    "embedding_length_per_layer_input",
    "swiglu_clamp_exp",
    "swiglu_clamp_shexp",
    "dense_2_feat_in",
    "dense_2_feat_out",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.max_alibi_bias",
    "attention.clamp_kqv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.group_norm_epsilon",
    "attention.group_norm_groups",
    "attention.causal",
    "attention.q_lora_rank",
    "attention.kv_lora_rank",
    "attention.decay_lora_rank",
    "attention.iclr_lora_rank",
    "attention.value_residual_mix_lora_rank",
    "attention.gate_lora_rank",
    "attention.relative_buckets_count",
    "attention.sliding_window",
    "attention.scale",
    "attention.output_scale",
    "attention.temperature_length",
    "attention.key_length_mla",
    "attention.value_length_mla",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.shared_kv_layers",
    "attention.sliding_window_pattern",
    "attention.temperature_scale",
    "attention.indexer.head_count",
    "attention.indexer.key_length",
    "attention.indexer.top_k",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.dimension_sections",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.alpha",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "ssm.conv_kernel",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "ssm.group_count",
    "ssm.dt_b_c_rms",
    "kda.head_dim",
    "wkv.head_size",
    "posnet.embedding_length",
    "posnet.block_count",
    "convnext.embedding_length",
    "convnext.block_count",
    "classifier.output_labels",
    "shortconv.l_cache",
};
constexpr const char* kGeneralKeys[] = {
    "type",
    "architecture",
    "quantization_version",
    "alignment",
    "file_type",
    "sampling.sequence",
    "sampling.top_k",
    "sampling.top_p",
    "sampling.min_p",
    "sampling.xtc_probability",
    "sampling.xtc_threshold",
    "sampling.temp",
    "sampling.penalty_last_n",
    "sampling.penalty_repeat",
    "sampling.mirostat",
    "sampling.mirostat_tau",
    "sampling.mirostat_eta",
    "name",
    "author",
    "version",
    "organization",
    "finetune",
    "basename",
    "description",
    "quantized_by",
    "size_label",
    "license",
    "license.name",
    "license.link",
    "url",
    "doi",
    "uuid",
    "repo_url",
    "source.url",
    "source.doi",
    "source.uuid",
    "source.repo_url",
    "base_model.count",
    "base_model.0.name",
    "base_model.0.author",
    "base_model.0.version",
    "base_model.0.organization",
    "base_model.0.description",
    "base_model.0.url",
    "base_model.0.doi",
    "base_model.0.uuid",
    "base_model.0.repo_url",
    "dataset.count",
    "dataset.0.name",
    "dataset.0.author",
    "dataset.0.version",
    "dataset.0.organization",
    "dataset.0.description",
    "dataset.0.url",
    "dataset.0.doi",
    "dataset.0.uuid",
    "dataset.0.repo_url",
    "tags",
    "languages",
};

TEST(GgufFields, every_key_is_known) {
  for (const char* key : kModelKeys) {
    const FieldNote* const note = find_note(gguf_model_fields(), key);
    ASSERT_TRUE(note) << key;
    if (note->meaning != FieldMeaning::honoured) EXPECT_FALSE(note->why.empty()) << key;
  }
  for (const char* key : kGeneralKeys) EXPECT_TRUE(find_note(gguf_general_fields(), key)) << key;
}

// A file of a tiny model with one more key.
class GgufKey : public ::testing::Test {
 protected:
  template <class Add>
  Result<std::unique_ptr<ModelSource>> with(const std::string& family, Add add) {
    const MemoryModel model(tiny_architecture(family));
    const std::string plain = folder_.file("plain.gguf"), path = folder_.file("more.gguf");
    CHECK_OK(write_gguf_model(plain, model.architecture, model.tensors, model.rows(), {.name = "tiny"}));
    const GgufFile file = TRY(GgufFile::open(plain));
    GgufWriter writer;
    for (const GgufValue& value : file.values()) writer.copy(file, value);
    add(writer);
    for (const GgufTensor& tensor : file.tensors())
      CHECK_OK(writer.add_tensor(tensor.name, static_cast<int>(tensor.type), tensor.shape));
    CHECK_OK(writer.start(path));
    for (const GgufTensor& tensor : file.tensors()) {
      std::vector<std::byte> bytes(tensor.bytes);
      CHECK_OK(file.file().read(tensor.offset, bytes));
      CHECK_OK(writer.write(bytes));
    }
    CHECK_OK(writer.finish());
    return ModelSource::open(path);
  }
  TemporaryFolder folder_;
};

TEST_F(GgufKey, is_refused_by_name_where_it_asks_for_something) {
  listen_for_warnings([](const std::string&) {});
  for (const FieldNote& note : gguf_model_fields()) {
    if (note.meaning != FieldMeaning::refused) continue;
    std::string key = "qwen2." + std::string(note.field);  // llama's window makes it mistral's
    if (key.ends_with('*')) key.back() = 'x';
    const auto off = with("qwen2", [&](GgufWriter& writer) { writer.add_integer(key, 0); });
    EXPECT_TRUE(off) << key << ": " << off.error().message;
    const auto on = with("qwen2", [&](GgufWriter& writer) { writer.add_integer(key, 7); });
    ASSERT_FALSE(on) << key;
    EXPECT_THAT(on.error().message, HasSubstr("'" + key + "' is set"));
  }
  listen_for_warnings({});
}

TEST_F(GgufKey, of_a_family_is_honoured_there) {
  const auto granite = with("granite", [](GgufWriter&) {});
  EXPECT_TRUE(granite) << granite.error().message;
  EXPECT_FALSE(with("llama", [](GgufWriter& writer) { writer.add_float("llama.logit_scale", 0.5f); }));
}

TEST_F(GgufKey, that_nobody_knows_is_said) {
  std::string said;
  listen_for_warnings([&](const std::string& text) { said += text; });
  EXPECT_TRUE(with("llama", [](GgufWriter& writer) { writer.add_integer("llama.next_year", 7); }));
  listen_for_warnings({});
  EXPECT_THAT(said, HasSubstr("'llama.next_year' (unknown)"));
}

TEST_F(GgufKey, of_values_that_the_family_takes_for_granted) {
  const auto causal = with("llama", [](GgufWriter& writer) { writer.add_bool("llama.attention.causal", false); });
  ASSERT_FALSE(causal);
  EXPECT_THAT(causal.error().message, HasSubstr("'llama.attention.causal' is false"));
  EXPECT_TRUE(with("llama", [](GgufWriter& writer) { writer.add_bool("llama.attention.causal", true); }));
  EXPECT_FALSE(with("llama", [](GgufWriter& writer) { writer.add_float("llama.attention.max_alibi_bias", 8); }));
  EXPECT_TRUE(with("bloom", [](GgufWriter& writer) { writer.add_float("bloom.attention.max_alibi_bias", 8); }));
  const std::string key = "gemma2.attention.sliding_window_pattern";
  const auto pattern = [&](std::vector<int32_t> slides) {
    return with("gemma2", [&](GgufWriter& writer) { writer.add_integers(key, slides); });
  };
  EXPECT_TRUE(pattern({1, 0}));
  const auto other = pattern({0, 1});
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr(key));
}

// To llama.cpp scaling is linear where no kind is named, and what is multiplied with cosines and sines is the same of
// every kind.
TEST_F(GgufKey, of_rope_means_what_it_does_in_llama_cpp) {
  using Kind = RopeScaling::Kind;
  const auto scaled = [&](auto add) { return with("llama", add); };
  const auto linear = scaled([](GgufWriter& writer) { writer.add_float("llama.rope.scaling.factor", 4); });
  ASSERT_TRUE(linear) << linear.error().message;
  EXPECT_EQ((*linear)->architecture().ropes[0].scaling.kind, Kind::linear);
  EXPECT_EQ((*linear)->architecture().ropes[0].scaling.factor, 4);
  const auto none = scaled([](GgufWriter& writer) {
    writer.add_string("llama.rope.scaling.type", "none");
    writer.add_float("llama.rope.scale_linear", 4);
  });
  ASSERT_TRUE(none) << none.error().message;
  EXPECT_EQ((*none)->architecture().ropes[0].scaling.kind, Kind::none);
  const auto alone = scaled([](GgufWriter& writer) { writer.add_float("llama.rope.scaling.attn_factor", 1.3f); });
  ASSERT_FALSE(alone);
  EXPECT_THAT(alone.error().message, HasSubstr("'llama.rope.scaling.attn_factor' without yarn"));
}

TEST_F(GgufKey, of_yarns_ramp_is_not_looked_at_and_said) {
  std::string said;
  listen_for_warnings([&](const std::string& text) { said += text; });
  const auto yarn = with("llama", [](GgufWriter& writer) {
    writer.add_string("llama.rope.scaling.type", "yarn");
    writer.add_float("llama.rope.scaling.factor", 4);
    writer.add_float("llama.rope.scaling.yarn_beta_fast", 2);
  });
  listen_for_warnings({});
  ASSERT_TRUE(yarn) << yarn.error().message;
  EXPECT_EQ((*yarn)->architecture().ropes[0].scaling.beta_fast, 32);
  EXPECT_THAT(said, HasSubstr("'llama.rope.scaling.yarn_beta_fast' 2"));
}

TEST_F(GgufKey, that_is_missing_means_llama_cpps_default) {
  const auto without = [&](const std::string& family, const std::string& key) {
    const MemoryModel model(tiny_architecture(family));
    const std::string plain = folder_.file("plain.gguf"), path = folder_.file("less.gguf");
    EXPECT_TRUE(write_gguf_model(plain, model.architecture, model.tensors, model.rows(), {.name = "tiny"}));
    const GgufFile file = GgufFile::open(plain).value();
    GgufWriter writer;
    for (const GgufValue& value : file.values())
      if (value.key != key) writer.copy(file, value);
    for (const GgufTensor& tensor : file.tensors())
      EXPECT_TRUE(writer.add_tensor(tensor.name, static_cast<int>(tensor.type), tensor.shape));
    EXPECT_TRUE(writer.start(path));
    for (const GgufTensor& tensor : file.tensors()) {
      std::vector<std::byte> bytes(tensor.bytes);
      EXPECT_TRUE(file.file().read(tensor.offset, bytes) && writer.write(bytes));
    }
    EXPECT_TRUE(writer.finish());
    const auto source = ModelSource::open(path);
    EXPECT_TRUE(source) << source.error().message;
    return source ? (*source)->architecture() : Architecture{};
  };
  for (const Block& block : without("gemma3_text", "gemma3.attention.sliding_window").blocks) {
    EXPECT_EQ(block.attention.window, 0);
    EXPECT_EQ(block.attention.rope, 0);
  }
  const Attention granite = without("granite", "granite.attention.scale").blocks[0].attention;
  EXPECT_FLOAT_EQ(static_cast<float>(granite.scale), 1 / std::sqrt(static_cast<float>(granite.head_dim)));
}

TEST_F(GgufKey, of_another_base_for_windows_is_read_refused_or_said) {
  const auto based = [&](const std::string& family, const std::string& architecture) {
    return with(family, [&](GgufWriter& writer) { writer.add_float(architecture + ".rope.freq_base_swa", 77); });
  };
  std::string said;
  listen_for_warnings([&](const std::string& text) { said += text; });
  const auto gemma3 = based("gemma3_text", "gemma3"), gemma2 = based("gemma2", "gemma2"),
             olmo3 = based("olmo3", "olmo2");
  listen_for_warnings({});
  ASSERT_TRUE(gemma3) << gemma3.error().message;
  EXPECT_EQ((*gemma3)->architecture().ropes[1].base, 77);
  ASSERT_FALSE(gemma2);
  EXPECT_THAT(gemma2.error().message, HasSubstr("'gemma2.rope.freq_base_swa' is 77"));
  ASSERT_TRUE(olmo3) << olmo3.error().message;
  EXPECT_THAT(said, HasSubstr("'olmo2.rope.freq_base_swa' 77 is not looked at"));
}

}  // namespace
}  // namespace thimble
