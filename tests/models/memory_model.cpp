#include "models/memory_model.h"

#include <nlohmann/json.hpp>

namespace thimble {

Json tiny_config(const std::string& family) {
  const SizeFields& names = find_family(family)->sizes;
  const bool older = family == "llama" || family == "mistral" || family == "gpt2" || family.starts_with("qwen");
  const int64_t head = older ? 4 : 8;  // of which a quarter may turn
  const bool tied = family == "gpt2" || find_family(family)->gguf.tensors.head == GgufTensors::never;
  Json json = {{"model_type", family}, {"vocab_size", 11}, {"tie_word_embeddings", tied}};
  json["sliding_window"] = 8;
  if (family == "exaone4") json["sliding_window"] = nullptr;  // which llama.cpp has in models of 64 layers only
  json["query_pre_attn_scalar"] = head;                       // what llama.cpp takes for Gemma's
  const Json rope = {{"rope_theta", 5000}};
  json["rope_parameters"] = rope;
  if (family == "olmo3") json["rope_parameters"] = {{"full_attention", rope}, {"sliding_attention", rope}};
  if (family == "ministral3")  // which transformers cannot run without the growth of queries
    json["rope_parameters"].update({{"rope_type", "yarn"},
                                    {"factor", 2},
                                    {"original_max_position_embeddings", 8},
                                    {"llama_4_scaling_beta", 0.125}});
  if (family == "gptj") json["rotary_dim"] = 4;
  if (family == "granite")
    json.update({{"embedding_multiplier", 3},
                 {"residual_multiplier", 0.5},
                 {"attention_multiplier", 0.25},
                 {"logits_scaling", 2}});
  json.update(
      {{"num_experts", 3}, {"num_local_experts", 3}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 12}});
  if (family == "qwen3_moe") json["mlp_only_layers"] = {1};
  if (family == "thimble")
    json.update({{"block_mixers", {"attention", "deltanet"}},
                 {"block_windows", {8, 0}},
                 {"block_routers", {"switch", "none"}},
                 {"block_norms", {"dyt", "eln"}},
                 {"block_ffns", {"low_rank", "plain"}},
                 {"ffn_rank", 6},
                 {"final_norm", "layer"},
                 {"expert_capacity", 1.25},
                 {"router_aux_loss_coef", 0.5}});
  const auto set = [&](std::string_view name, int64_t value) {
    if (!name.empty()) json[std::string(name)] = value;
  };
  set(names.width, 3 * head);
  set(names.layers, 2);
  set(names.heads, 3);
  set(names.kv_heads, family == "phi" ? 3 : 1);
  set(names.head_dim, family == "qwen3" ? 8 : head);
  set(names.ffn, 20);
  set(names.context, 16);
  return json;
}

Architecture tiny_architecture(const std::string& family) {
  auto a = parse_config(tiny_config(family).dump(), "a tiny config.json");
  EXPECT_TRUE(a) << a.error().message;
  if (!a) return {};
  const double epsilon = family == "opt" ? 1e-5 : 0x1p-17;  // OPT's files do not say
  for (Block& b : a->blocks)
    for (Norm* n : {&b.before_mixer, &b.after_mixer, &b.before_ffn, &b.after_ffn, &b.attention.qk_norm})
      if (*n) n->epsilon = epsilon;
  for (Norm* n : {&a->embedding_norm, &a->final_norm})
    if (*n) n->epsilon = epsilon;
  return *std::move(a);
}

std::vector<float> read_all(const ModelSource& source, const ModelTensor& tensor) {
  std::vector<std::byte> bytes(tensor.shape.rows() * tensor.codec->bytes(tensor.shape.columns()));
  const auto done = source.read(tensor, 0, tensor.shape.rows(), bytes);
  EXPECT_TRUE(done) << done.error().message;
  std::vector<float> numbers(tensor.shape.count());
  tensor.codec->decode(bytes.data(), numbers.data(), tensor.shape.count());
  return numbers;
}

void expect_same_weights(const ModelSource& source, const MemoryModel& model, float apart) {
  ASSERT_EQ(source.tensors().size(), model.tensors.size());
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const ModelTensor& tensor = source.tensors()[i];
    SCOPED_TRACE(tensor.name);
    ASSERT_EQ(tensor.name, model.tensors[i].name);
    ASSERT_EQ(tensor.shape, model.tensors[i].shape);
    const std::vector<float>& expected = model.values.at(tensor.name);
    const std::vector<float> whole = read_all(source, tensor);
    ASSERT_EQ(whole.size(), expected.size());
    for (size_t e = 0; e < whole.size(); ++e) ASSERT_NEAR(whole[e], expected[e], 4 * apart) << e;
    const int64_t row = tensor.shape.rows() - 1, columns = tensor.shape.columns();
    std::vector<float> last(columns);
    std::vector<std::byte> bytes(tensor.codec->bytes(columns));
    ASSERT_TRUE(source.read(tensor, row, 1, bytes));
    tensor.codec->decode(bytes.data(), last.data(), columns);
    EXPECT_TRUE(std::equal(last.begin(), last.end(), whole.end() - columns));
  }
}

}  // namespace thimble
