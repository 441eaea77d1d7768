// EXAONE 4: norms behind the sublayers and of each head of q and k; layers without a window have no positions.
//
//   Source  transformers, models/exaone4 (LG AI Research 2025, arXiv:2507.11407)
#include <nlohmann/json.hpp>

#include "models/families.h"

namespace thimble {
namespace {

// "sliding_window_pattern" is a number of layers, or a letter a layer: "LLLG".
struct Pattern {
  int64_t period = 4;
  std::string letters;
  bool slides(int64_t layer) const {
    if (!letters.empty()) return letters[static_cast<size_t>(layer) % letters.size()] == 'L';
    return period > 0 && (layer + 1) % period != 0;
  }
};

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  llama_like(f, a, b, {.epsilon = 1e-5});
  if (f.reads()) {
    b.before_mixer = b.before_ffn = {};
    b.after_mixer = b.after_ffn = b.attention.qk_norm = a.final_norm;
  }
  f.rope(a, b);
  f.repeat(a, b);
  Pattern pattern;
  if (f.says("sliding_window_pattern") && f.source().find("sliding_window_pattern")->is_string())
    f.field("sliding_window_pattern", pattern.letters);
  else if (f.reads())
    f.field("sliding_window_pattern", pattern.period, 4);
  f.windows(a, 4096, [&](int64_t layer) { return pattern.slides(layer); });
  // With a window in the file, layers that see everything have no positions, whether or not others slide.
  const bool has_window = f.reads() && (f.says("sliding_window") || !f.source().json().contains("sliding_window"));
  if (f.reads())
    for (Block& block : a.blocks) block.attention.rope = !has_window || block.attention.window > 0 ? 0 : -1;
  const auto sees_all = [](const Block& b) { return b.attention.window == 0 && b.attention.rope >= 0; };
  if (!f.reads() && std::all_of(a.blocks.begin(), a.blocks.end(), sees_all)) f.json()["sliding_window"] = nullptr;
}

constexpr GgufField kFields[] = {{"attention.sliding_window", "sliding_window"}};

// llama.cpp (src/models/exaone4.cpp) knows the 32B model by its layers: every fourth of them sees everything and has no
// positions. In a model of any other size all layers are alike, whatever the file says of a window.
void from_tensors(const GgufFile&, int64_t, Json& config) {
  if (config["num_hidden_layers"] != 64) config["sliding_window"] = nullptr;
}

}  // namespace

const Family kExaone4Family = {.name = "exaone4",
                               .model_class = "Exaone4ForCausalLM",
                               .config = config,
                               .sizes = {.default_kv_heads = 32},
                               .names = olmo_names,
                               .gguf = {.architecture = "exaone4",
                                        .fields = kFields,
                                        .tensors = {.rope_factors = true, .any_head_dim = false},
                                        .from_tensors = from_tensors}};

}  // namespace thimble
