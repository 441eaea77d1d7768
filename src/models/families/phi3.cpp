// Phi 3 and 4: Llama with fused matrices and LongRoPE.
//
//   Source  transformers, models/phi3 (Abdin et al. 2024, arXiv:2404.14219)
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5});
  f.rope(a, b, {.partial_field = kPartialRotary, .original_context = 4096});
  int64_t original = a.context;
  if (!a.ropes.empty() && a.ropes[0].scaling.original_context > 0) original = a.ropes[0].scaling.original_context;
  f.field("original_max_position_embeddings", original, 4096);
  f.repeat(a, b);
  f.window(a, 0);
}

constexpr HfName kNames[] = {{"self_attn.q_proj", "self_attn.qkv_proj", HfName::Fusion::stacked},
                             {"self_attn.k_proj", "self_attn.qkv_proj", HfName::Fusion::stacked},
                             {"self_attn.v_proj", "self_attn.qkv_proj", HfName::Fusion::stacked},
                             {"mlp.gate_proj", "mlp.gate_up_proj", HfName::Fusion::stacked},
                             {"mlp.up_proj", "mlp.gate_up_proj", HfName::Fusion::stacked}};

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}};

// The original context is where the rope's own is.
void from_tensors(const GgufFile&, int64_t, Json& config) {
  const Json& rope = config["rope_parameters"];
  if (rope.contains("original_max_position_embeddings"))
    config["original_max_position_embeddings"] = rope["original_max_position_embeddings"];
}

}  // namespace

const Family kPhi3Family = {.name = "phi3",
                            .model_class = "Phi3ForCausalLM",
                            .config = config,
                            .sizes = {.head_dim = "", .default_context = 4096},
                            .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                            .gguf = {.architecture = "phi3",
                                     .fused_qkv = true,
                                     .fused_gate_up = true,
                                     .fields = kFields,
                                     .tensors = {.long_rope = true, .any_head_dim = false},
                                     .ignores_window = true,
                                     .from_tensors = from_tensors}};

}  // namespace thimble
