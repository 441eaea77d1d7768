#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "models/hf_config.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

std::string llama(const std::string& extra, const std::string& type = "llama") {
  return R"({"model_type":")" + type +
         R"(","vocab_size":100,"hidden_size":64,"num_hidden_layers":2,"num_attention_heads":4,"intermediate_size":128)" +
         extra + "}";
}

Architecture parsed(const std::string& text) {
  const auto a = parse_config(text, "config.json");
  EXPECT_TRUE(a) << a.error().message;
  return a.value_or(Architecture{});
}

TEST(Config, llama_with_defaults) {
  const Architecture a = parsed(llama(""));
  EXPECT_EQ(a.kv_heads, 4);
  EXPECT_EQ(a.head_dim, 16);
  EXPECT_EQ(a.context, 2048);
  EXPECT_EQ(a.norm_epsilon, 1e-6);
  EXPECT_EQ(a.rope_base, 10000);
  EXPECT_FALSE(a.tied);
}

// config.json of SmolLM2-135M.
TEST(Config, smollm2) {
  const Architecture a = parsed(R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
    "bos_token_id":0,"eos_token_id":0,"hidden_act":"silu","hidden_size":576,"initializer_range":0.041666666666666664,
    "intermediate_size":1536,"is_llama_config":true,"max_position_embeddings":8192,"model_type":"llama",
    "num_attention_heads":9,"num_hidden_layers":30,"num_key_value_heads":3,"pretraining_tp":1,"rms_norm_eps":1e-05,
    "rope_interleaved":false,"rope_scaling":null,"rope_theta":100000,"tie_word_embeddings":true,
    "torch_dtype":"bfloat16","transformers_version":"4.40.1","use_cache":true,"vocab_size":49152})");
  EXPECT_EQ(a.head_dim, 64);
  EXPECT_EQ(a.rope_base, 100000);
  EXPECT_TRUE(a.tied);
}

TEST(Config, rope_in_both_spellings) {
  const Architecture old = parsed(llama(R"(,"rope_theta":500000.0,"rope_scaling":{"type":"llama3","factor":8.0,
    "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})"));
  EXPECT_EQ(old.rope_scaling.kind, RopeScaling::Kind::llama3);
  EXPECT_EQ(old.rope_base, 500000);
  EXPECT_EQ(old.rope_scaling.original_context, 8192);
  const Architecture now = parsed(llama(R"(,"rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":8.0,
    "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})"));
  EXPECT_EQ(now, old);
  EXPECT_EQ(parsed(llama(R"(,"rope_parameters":{"rope_type":"default","rope_theta":7.0})")).rope_base, 7);
  const Architecture linear = parsed(llama(R"(,"rope_scaling":{"type":"linear","factor":2})"));
  EXPECT_EQ(linear.rope_scaling.kind, RopeScaling::Kind::linear);
  EXPECT_EQ(linear.rope_scaling.factor, 2);
  const Architecture yarn = parsed(llama(
      R"(,"max_position_embeddings":4096,"rope_scaling":{"rope_type":"yarn","factor":4,"attention_factor":1.5})"));
  EXPECT_EQ(yarn.rope_scaling.kind, RopeScaling::Kind::yarn);
  EXPECT_EQ(yarn.rope_scaling.original_context, 4096);
  EXPECT_EQ(yarn.rope_scaling.attention_factor, 1.5);
}

TEST(Config, windows) {
  EXPECT_EQ(parsed(llama(R"(,"sliding_window":7,"num_key_value_heads":2)", "mistral")).window, 7);
  EXPECT_EQ(parsed(llama(R"(,"sliding_window":null,"num_key_value_heads":2)", "mistral")).window, 0);
  EXPECT_EQ(parsed(llama(R"(,"num_key_value_heads":2)", "mistral")).window, 4096);
  EXPECT_EQ(parsed(llama(R"(,"sliding_window":7)")).window, 0);
  // Qwen2's files have the field whether it is in use or not.
  const std::string qwen = R"(,"num_key_value_heads":2,"sliding_window":7,"max_window_layers":)";
  EXPECT_EQ(parsed(llama(qwen + "0", "qwen2")).window, 0);
  EXPECT_EQ(parsed(llama(qwen + R"(0,"use_sliding_window":true)", "qwen2")).window, 7);
  EXPECT_EQ(parsed(llama(qwen + R"(2,"use_sliding_window":true)", "qwen2")).window, 0);
  EXPECT_THAT(parse_config(llama(qwen + R"(1,"use_sliding_window":true)", "qwen2"), "c").error().message,
              HasSubstr("one window for all layers"));
}

TEST(Config, qwen) {
  const Architecture two = parsed(llama(R"(,"num_key_value_heads":2)", "qwen2"));
  EXPECT_TRUE(two.qkv_bias);
  EXPECT_FALSE(two.linear_bias);
  const Architecture three = parsed(llama(R"(,"num_key_value_heads":2)", "qwen3"));
  EXPECT_TRUE(three.qk_norm);
  EXPECT_FALSE(three.qkv_bias);
  EXPECT_EQ(three.head_dim, 128);
  EXPECT_EQ(parsed(llama(R"(,"num_key_value_heads":2,"head_dim":32)", "qwen3")).head_dim, 32);
}

TEST(Config, gpt2) {
  const Architecture a = parsed(
      R"({"model_type":"gpt2","vocab_size":50257,"n_embd":768,"n_layer":12,"n_head":12,"n_positions":1024,"n_ctx":1024,
      "layer_norm_epsilon":1e-05,"activation_function":"gelu_new"})");
  EXPECT_EQ(a.ffn_width, 3072);
  EXPECT_EQ(a.norm, Architecture::Norm::layer);
  EXPECT_EQ(a.ffn, Architecture::Ffn::gelu_tanh);
  EXPECT_EQ(a.position, Architecture::Position::learned);
  EXPECT_TRUE(a.tied && a.qkv_bias && a.linear_bias);
}

}  // namespace
}  // namespace thimble
