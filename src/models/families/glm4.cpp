// GLM-4 0414: norms before and behind both sublayers, rotations of neighbours in half of a head.
//
//   Source  transformers, models/glm4
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1.5625e-7});
  f.field("attention_bias", b.attention.qkv_bias, true);
  if (f.reads()) b.after_mixer = b.after_ffn = a.final_norm;
  f.rope(a, b, {.partial = 0.5, .partial_field = kPartialRotary});
  if (f.reads() && !a.ropes.empty()) a.ropes[0].layout = Rope::Layout::interleaved;
  f.repeat(a, b);
}

constexpr HfName kNames[] = {{"mlp.gate_proj", "mlp.gate_up_proj", HfName::Fusion::stacked},
                             {"mlp.up_proj", "mlp.gate_up_proj", HfName::Fusion::stacked}};

}  // namespace

const Family kGlm4Family = {.name = "glm4",
                            .model_class = "Glm4ForCausalLM",
                            .config = config,
                            .sizes = {.default_kv_heads = 2, .default_head_dim = 128, .default_context = 131072},
                            .names = [](const Architecture&) -> std::span<const HfName> { return kNames; },
                            .rope_layout = Rope::Layout::interleaved,
                            .gguf = {.architecture = "glm4", .fused_gate_up = true}};

}  // namespace thimble
