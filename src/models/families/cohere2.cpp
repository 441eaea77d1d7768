// Command R7B and Command A: both sublayers on one layer norm without bias; rotations of neighbours in the layers with
// a window, no positions in the others.
//
//   Source  transformers, models/cohere2
#include "models/families.h"

namespace thimble {
namespace {

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5, .norm = {.kind = &kLayer}, .epsilon_field = "layer_norm_eps", .tied = true});
  f.field("logit_scale", a.logit_scale, 0.0625);
  f.field("attention_bias", b.attention.qkv_bias, false);
  b.attention.output_bias = b.attention.qkv_bias;
  f.only("use_qk_norm", false);
  f.harmless({"order_of_interleaved_layers", "position_embedding_type", "rotary_pct", "use_embedding_sharing",
              "use_gated_activation", "use_parallel_block", "use_parallel_embedding"},
             "Cohere 2 has one value of it, which is taken");
  if (f.reads()) b.parallel = true, b.before_ffn = {};
  f.rope(a, b);
  if (f.reads() && !a.ropes.empty()) a.ropes[0].layout = Rope::Layout::interleaved;
  f.repeat(a, b);
  int64_t period = 4;
  f.field("sliding_window_pattern", period, 4);
  f.windows(a, 4096, [period](int64_t layer) { return (layer + 1) % std::max<int64_t>(1, period) != 0; });
  if (f.reads())
    for (Block& block : a.blocks) block.attention.rope = block.attention.window > 0 ? 0 : -1;
}

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}, {"logit_scale", "logit_scale"}};

}  // namespace

const Family kCohere2Family = {
    .name = "cohere2",
    .model_class = "Cohere2ForCausalLM",
    .config = config,
    .sizes = {.default_context = 8192},
    .rope_layout = Rope::Layout::interleaved,
    .gguf = {
        .architecture = "cohere2", .fields = kFields, .tensors = {.head = GgufTensors::never, .any_head_dim = false}}};

}  // namespace thimble
