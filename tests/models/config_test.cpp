#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/warnings.h"
#include "models/hf_config.h"
#include "models/norm.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
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
  EXPECT_EQ(a.blocks.at(0).attention.kv_heads, 4);
  EXPECT_EQ(a.blocks.at(0).attention.head_dim, 16);
  EXPECT_EQ(a.context, 2048);
  EXPECT_EQ(a.final_norm.epsilon, 1e-6);
  EXPECT_EQ(a.ropes.at(0).base, 10000);
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
  EXPECT_EQ(a.blocks.at(0).attention.head_dim, 64);
  EXPECT_EQ(a.ropes.at(0).base, 100000);
  EXPECT_TRUE(a.tied);
}

TEST(Config, rope_in_both_spellings) {
  const Architecture old = parsed(llama(R"(,"rope_theta":500000.0,"rope_scaling":{"type":"llama3","factor":8.0,
    "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})"));
  EXPECT_EQ(old.ropes.at(0).scaling.kind, RopeScaling::Kind::llama3);
  EXPECT_EQ(old.ropes.at(0).base, 500000);
  EXPECT_EQ(old.ropes.at(0).scaling.original_context, 8192);
  const Architecture now = parsed(llama(R"(,"rope_parameters":{"rope_type":"llama3","rope_theta":500000.0,"factor":8.0,
    "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192})"));
  EXPECT_EQ(now, old);
  EXPECT_EQ(parsed(llama(R"(,"rope_parameters":{"rope_type":"default","rope_theta":7.0})")).ropes.at(0).base, 7);
  const Architecture linear = parsed(llama(R"(,"rope_scaling":{"type":"linear","factor":2})"));
  EXPECT_EQ(linear.ropes.at(0).scaling.kind, RopeScaling::Kind::linear);
  EXPECT_EQ(linear.ropes.at(0).scaling.factor, 2);
  const Architecture yarn = parsed(llama(
      R"(,"max_position_embeddings":4096,"rope_scaling":{"rope_type":"yarn","factor":4,"attention_factor":1.5})"));
  EXPECT_EQ(yarn.ropes.at(0).scaling.kind, RopeScaling::Kind::yarn);
  EXPECT_EQ(yarn.ropes.at(0).scaling.original_context, 4096);
  EXPECT_EQ(yarn.ropes.at(0).scaling.attention_factor, 1.5);
}

// Which part of a head turns is a field of few families; transformers turns whole heads in the others, whatever their
// files say, and cannot run a scaling beside it.
TEST(Config, part_of_a_head_that_turns) {
  std::string said;
  // A warning is given once: each file has a name of its own.
  const auto rotated = [&](const std::string& extra, const std::string& type) {
    said.clear();
    const auto a = parse_config(llama(R"(,"num_key_value_heads":4)" + extra, type), "config.json of " + type + extra);
    EXPECT_TRUE(a) << a.error().message;
    return a ? a->ropes.at(0).rotated * 64 / a->blocks.at(0).attention.q_width() : 0;
  };
  const std::string outside = R"(,"partial_rotary_factor":0.25)",
                    inside = R"(,"rope_parameters":{"rope_type":"default","partial_rotary_factor":0.25})",
                    scaled = R"(,"rope_scaling":{"rope_type":"linear","factor":2})";
  listen_for_warnings([&](const std::string& text) { said += text; });
  for (const char* type : {"phi", "phi3", "stablelm", "nemotron", "glm4", "thimble"}) {
    for (const auto& extra : {outside, inside}) {
      EXPECT_EQ(rotated(extra, type), 4) << type << extra;
      EXPECT_EQ(said, "");
    }
  }
  for (const char* type : {"llama", "qwen2", "qwen3", "mistral", "gemma", "gemma2", "gemma3_text", "cohere2", "olmo2",
                           "olmo3", "granite", "smollm3", "starcoder2", "mixtral"}) {
    for (const auto& extra : {outside, inside}) {
      EXPECT_EQ(rotated(extra, type), 16) << type << extra;
      const bool overlooked = extra == inside && (type == std::string("gemma3_text") || type == std::string("olmo3"));
      EXPECT_THAT(said, HasSubstr(overlooked ? "has no object for each kind of layer"
                                             : "'partial_rotary_factor' is 0.25: not used"))
          << type << extra;
    }
  }
  EXPECT_EQ(rotated(outside + scaled, "phi"), 4);
  listen_for_warnings({});
  EXPECT_THAT(parse_config(llama(outside + scaled), "config.json").error().message,
              HasSubstr("'partial_rotary_factor' is 0.25 beside a scaling"));
}

TEST(Config, windows) {
  const auto windows = [](const std::string& extra, const std::string& type) {
    std::vector<int64_t> out;
    for (const Block& block : parsed(llama(extra, type)).blocks) out.push_back(block.attention.window);
    return out;
  };
  EXPECT_THAT(windows(R"(,"sliding_window":7,"num_key_value_heads":2)", "mistral"), ElementsAre(7, 7));
  EXPECT_THAT(windows(R"(,"sliding_window":null,"num_key_value_heads":2)", "mistral"), ElementsAre(0, 0));
  EXPECT_THAT(windows(R"(,"num_key_value_heads":2)", "mistral"), ElementsAre(4096, 4096));
  EXPECT_THAT(windows(R"(,"sliding_window":7)", "llama"), ElementsAre(0, 0));
  // Qwen2's files have the field whether it is in use or not.
  const std::string qwen = R"(,"num_key_value_heads":2,"sliding_window":7,"max_window_layers":)";
  EXPECT_THAT(windows(qwen + "0", "qwen2"), ElementsAre(0, 0));
  EXPECT_THAT(windows(qwen + R"(0,"use_sliding_window":true)", "qwen2"), ElementsAre(7, 7));
  EXPECT_THAT(windows(qwen + R"(2,"use_sliding_window":true)", "qwen2"), ElementsAre(0, 0));
  EXPECT_THAT(windows(qwen + R"(1,"use_sliding_window":true)", "qwen2"), ElementsAre(0, 7));
  EXPECT_THAT(
      windows(qwen + R"(2,"use_sliding_window":true,"layer_types":["sliding_attention","full_attention"])", "qwen2"),
      ElementsAre(7, 0));
}

std::string refusal(const std::string& text) {
  const auto a = parse_config(text, "config.json");
  return a ? "taken" : a.error().message;
}

// What transformers 5.24 makes of rare combinations, found by comparing random configurations with it
// (tools/check_transformers.py --draws).
TEST(Config, windows_that_layer_types_ask_for) {
  const std::string types = R"(,"num_key_value_heads":2,"layer_types":["full_attention","sliding_attention"])";
  const Architecture mistral = parsed(llama(types + R"(,"sliding_window":7)", "mistral"));  // a Ministral
  EXPECT_EQ(mistral.blocks.at(0).attention.window, 0);
  EXPECT_EQ(mistral.blocks.at(1).attention.window, 7);
  const std::string written = config_text(mistral, {.dtype = "float32"}).value();
  EXPECT_EQ(parsed(written), mistral);
  for (const char* type : {"mistral", "ministral", "gemma2", "gemma3_text", "olmo3", "cohere2", "exaone4"}) {
    EXPECT_THAT(refusal(llama(types + R"(,"sliding_window":null)", type)), HasSubstr("there is no 'sliding_window'"));
    EXPECT_THAT(refusal(llama(types + R"(,"sliding_window":0)", type)), HasSubstr("'sliding_window' is 0"));
  }
  EXPECT_THAT(refusal(llama(types, "qwen2")), HasSubstr("'use_sliding_window' is false"));
  EXPECT_THAT(refusal(llama(R"(,"sliding_window":0)", "starcoder2")), HasSubstr("'sliding_window' is 0"));
  const auto rope_of_exaone = [](const std::string& window) {
    const std::string full = R"(,"layer_types":["full_attention","full_attention"])";
    const Architecture a = parsed(llama(full + window + R"(,"num_key_value_heads":2)", "exaone4"));
    EXPECT_EQ(parsed(config_text(a, {.dtype = "float32"}).value()), a);
    return a.blocks.at(0).attention.rope;
  };
  EXPECT_EQ(rope_of_exaone(R"(,"sliding_window":7)"), -1);
  EXPECT_EQ(rope_of_exaone(""), -1);
  EXPECT_EQ(rope_of_exaone(R"(,"sliding_window":null)"), 0);
}

TEST(Config, ropes_said_twice) {
  listen_for_warnings([](const std::string&) {});
  const std::string inner = R"({"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,)"
                            R"("original_max_position_embeddings":64,"rope_theta":7.0})";
  const std::string outside = R"(,"original_max_position_embeddings":32)";
  const Architecture both = parsed(llama(R"(,"rope_parameters":)" + inner + outside));
  EXPECT_EQ(both.ropes.at(0).scaling.original_context, 32);
  const Architecture scaling = parsed(
      llama(R"(,"rope_theta":5.0,"rope_scaling":{"rope_type":"linear","factor":2.0},"rope_parameters":)" + inner));
  EXPECT_EQ(scaling.ropes.at(0).scaling.kind, RopeScaling::Kind::linear);
  EXPECT_EQ(scaling.ropes.at(0).base, 5);
  const Architecture phi3 = parsed(llama(R"(,"rope_scaling":{"type":"longrope","short_factor":[1,1,1,1,1,1,1,1],
    "long_factor":[2,2,2,2,2,2,2,2],"original_max_position_embeddings":64})",
                                         "phi3"));
  EXPECT_EQ(phi3.ropes.at(0).scaling.original_context, 4096);
  // Where each kind of layer has a rope, one for all is overlooked, and so is the old name of its type.
  for (const char* type : {"gemma3_text", "olmo3"}) {
    const Architecture flat = parsed(llama(R"(,"num_key_value_heads":2,"rope_parameters":)" + inner + outside, type));
    EXPECT_EQ(flat.ropes.at(0).scaling.kind, RopeScaling::Kind::none);
    EXPECT_NE(flat.ropes.at(0).base, 7);
    EXPECT_THAT(refusal(llama(R"(,"rope_scaling":{"type":"linear","factor":2.0})", type)),
                HasSubstr("call it 'rope_type'"));
    const Architecture added =
        parsed(llama(R"(,"num_key_value_heads":2,"rope_scaling":{"rope_type":"linear","factor":2.0})", type));
    EXPECT_EQ(added.ropes.at(0).scaling.kind, RopeScaling::Kind::linear);
    EXPECT_EQ(added.ropes.at(1).scaling.kind, RopeScaling::Kind::none);
  }
  const Architecture yarn = parsed(llama(R"(,"num_key_value_heads":2,"rope_parameters":{"full_attention":{
    "rope_type":"yarn","factor":2.0,"truncate":false}})",
                                         "olmo3"));
  EXPECT_TRUE(yarn.ropes.at(0).scaling.truncate);
  const Architecture ministral = parsed(llama(R"(,"num_key_value_heads":2,"rope_theta":5.0)", "ministral3"));
  EXPECT_EQ(ministral.ropes.at(0).scaling.kind, RopeScaling::Kind::yarn);
  EXPECT_EQ(ministral.ropes.at(0).scaling.original_context, 16384);
  EXPECT_EQ(ministral.ropes.at(0).query_growth, 0.1);
  EXPECT_EQ(ministral.ropes.at(0).base, 1000000);
  EXPECT_THAT(
      refusal(llama(R"(,"num_key_value_heads":2,"rope_scaling":{"rope_type":"linear","factor":2.0})", "ministral3")),
      HasSubstr("'llama_4_scaling_beta' is missing"));
  listen_for_warnings({});
}

TEST(Config, what_transformers_reads_in_every_family) {
  for (const char* type : {"llama", "gemma", "phi", "falcon", "starcoder2"}) {
    EXPECT_THAT(refusal(llama(R"(,"num_key_value_heads":2,"is_causal":false)", type)),
                HasSubstr("'is_causal' is false"));
    EXPECT_THAT(refusal(llama(R"(,"per_layer_config":{"0":{}})", type)), HasSubstr("'per_layer_config'"));
  }
  EXPECT_THAT(refusal(llama(R"(,"head_dim":8)", "phi")), HasSubstr("'head_dim' is 8"));
  EXPECT_THAT(refusal(llama(R"(,"multi_query":false,"num_kv_heads":2)", "falcon")),
              HasSubstr("'num_kv_heads' differs"));
  EXPECT_EQ(parsed(llama(R"(,"num_key_value_heads":2,"hidden_act":"relu","hidden_activation":"silu")", "gemma"))
                .blocks.at(0)
                .ffn.activation,
            Activation::relu);
  EXPECT_EQ(parsed(llama(R"(,"num_key_value_heads":2,"attn_logit_softcapping":5.0)", "gemma3_text"))
                .blocks.at(0)
                .attention.cap,
            0);
  // GPT-2's own names beside the usual ones, which go first; and its scales of attention.
  const Architecture gpt2 = parsed(R"({"model_type":"gpt2","vocab_size":100,"n_embd":64,"n_layer":2,"n_head":4,
    "n_positions":32,"num_attention_heads":2,"scale_attn_by_inverse_layer_idx":true})");
  EXPECT_EQ(gpt2.blocks.at(0).attention.heads, 2);
  EXPECT_DOUBLE_EQ(gpt2.blocks.at(1).attention.scale, 0.5 / std::sqrt(32.0));
  EXPECT_EQ(parsed(config_text(gpt2, {.dtype = "float32"}).value()), gpt2);
}

TEST(Config, qwen) {
  const Architecture two = parsed(llama(R"(,"num_key_value_heads":2)", "qwen2"));
  EXPECT_TRUE(two.blocks.at(0).attention.qkv_bias);
  EXPECT_FALSE(two.blocks.at(0).attention.output_bias || two.blocks.at(0).ffn.bias);
  const Architecture three = parsed(llama(R"(,"num_key_value_heads":2)", "qwen3"));
  EXPECT_TRUE(three.blocks.at(0).attention.qk_norm);
  EXPECT_FALSE(three.blocks.at(0).attention.qkv_bias);
  EXPECT_EQ(three.blocks.at(0).attention.head_dim, 128);
  EXPECT_EQ(parsed(llama(R"(,"num_key_value_heads":2,"head_dim":32)", "qwen3")).blocks.at(0).attention.head_dim, 32);
}

TEST(Config, gpt2) {
  const Architecture a = parsed(
      R"({"model_type":"gpt2","vocab_size":50257,"n_embd":768,"n_layer":12,"n_head":12,"n_positions":1024,"n_ctx":1024,
      "layer_norm_epsilon":1e-05,"activation_function":"gelu_new"})");
  const Block& block = a.blocks.at(0);
  EXPECT_EQ(block.ffn.width, 3072);
  EXPECT_EQ(block.before_mixer.kind, &kLayer);
  EXPECT_EQ(block.ffn.activation, Activation::gelu_tanh);
  EXPECT_EQ(a.learned_positions, 1024);
  EXPECT_TRUE(a.tied && block.attention.qkv_bias && block.attention.output_bias && block.ffn.bias);
}

std::string classifier(const std::string& extra) {
  return llama(R"(,"architectures":["LlamaForSequenceClassification"])" + extra);
}

TEST(Config, labels) {
  const Architecture two = parsed(classifier(""));
  EXPECT_THAT(two.labels->names, ElementsAre("LABEL_0", "LABEL_1"));
  EXPECT_EQ(two.labels->kind, Labels::Kind::classes);
  EXPECT_EQ(two.outputs(), 2);
  EXPECT_EQ(parsed(classifier(R"(,"id2label":{"0":"LABEL_0"})")).labels->kind, Labels::Kind::number);
  EXPECT_FALSE(parsed(llama(R"(,"id2label":{"0":"a","1":"b"})")).labels) << "the class says what the head is";
  const Architecture named = parsed(classifier(R"(,"id2label":{"1":"b","0":"a","2":"c"},"tie_word_embeddings":true)"));
  EXPECT_THAT(named.labels->names, ElementsAre("a", "b", "c"));
  EXPECT_FALSE(named.tied);
  const auto text = config_text(named, {});
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(parsed(*text), named);
}

TEST(Config, refuses_labels_that_are_none) {
  const auto refusal = [](const std::string& extra) {
    const auto a = parse_config(classifier(extra), "config.json");
    return a ? "" : a.error().message;
  };
  EXPECT_THAT(refusal(R"(,"id2label":{"0":"a","2":"b"})"), HasSubstr("every id"));
  EXPECT_THAT(refusal(R"(,"id2label":{"0":"a","00":"b"})"), HasSubstr("every id"));
  EXPECT_THAT(refusal(R"(,"id2label":{"0":"a","1":2})"), HasSubstr("every id"));
  EXPECT_THAT(refusal(R"(,"id2label":{})"), HasSubstr("should name"));
  EXPECT_THAT(refusal(R"(,"num_labels":-1)"), HasSubstr("num_labels"));
  EXPECT_THAT(refusal(R"(,"problem_type":"multi_label_classification")"), HasSubstr("multi_label"));
  EXPECT_THAT(refusal(R"(,"num_labels":3,"problem_type":"regression")"), HasSubstr("3 numbers"));
}

}  // namespace
}  // namespace thimble
