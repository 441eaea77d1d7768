// llama2.c's checkpoints, legacy version 0: seven int32 and then f32 weights, layer-stacked, without names.
//
//   dim, hidden_dim, layers, heads, kv_heads, vocab (negative: the head is a matrix of its own), context
//   embedding | rms_att | wq | wk | wv | wo | rms_ffn | w1 gate | w2 down | w3 up | rms_final | rope tables | head
//
//   Source  karpathy/llama2.c, export.py legacy_export and run.c memory_map_weights
//   Choice  q and k keep their rows; rope pairs element 2i with 2i + 1 (Rope::Layout::interleaved)
#include <array>
#include <cstdlib>

#include "models/stored_model.h"

namespace thimble {
namespace {

constexpr int32_t kVersionedMagic = 0x616b3432;  // "ak42": versions 1 and 2

bool recognises(const std::string& path) { return path.ends_with(".bin") && is_file(path); }

Result<Architecture> read_header(const InputFile& file) {
  std::array<int32_t, 7> header{};
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(header))));
  if (header[0] == kVersionedMagic) {
    return fail(ErrorCode::unsupported,
                "reading {}: this is llama2.c's format version {}; export the model as version 0 or as a Hugging Face "
                "folder",
                file.path(), header[1]);
  }
  const int64_t width = header[0], heads = header[3];
  if (heads > 0 && width > 0 && width % heads != 0) {
    return fail(ErrorCode::corrupt, "reading {}: the width {} is no multiple of {} heads; is this a llama2.c model?",
                file.path(), width, heads);
  }
  Architecture a = llama({.vocab = std::abs(int64_t{header[5]}),
                          .width = width,
                          .layers = std::min(header[2], 1 << 13),  // beyond any bound of check()
                          .heads = heads,
                          .kv_heads = header[4],
                          .head_dim = heads > 0 ? width / heads : 0,
                          .ffn_width = header[1],
                          .context = header[6]});
  a.tied = header[5] > 0;
  a.ropes[0].layout = Rope::Layout::interleaved;
  if (auto checked = check(a, file.path()); !checked) {
    return fail(ErrorCode::corrupt, "{}; is this a llama2.c model?", checked.error().message);
  }
  return a;
}

struct Section {
  std::string_view name;  // after "model.layers.N."
  int64_t count;          // elements of one layer
  uint64_t offset = 0;
};

Result<StoredModel> open_llama2c(const std::string& path) {
  StoredModel model;
  model.files.push_back(TRY(InputFile::open(path)));
  const InputFile& file = model.files.front();
  const Architecture a = model.architecture = TRY(read_header(file));
  const Block& block = a.blocks.front();
  uint64_t offset = 28;
  const auto take = [&](int64_t count) { return std::exchange(offset, offset + static_cast<uint64_t>(count) * 4); };

  const uint64_t embedding = take(a.vocab * a.width);
  std::array<Section, 9> sections = {{{"input_layernorm.weight", a.width},
                                      {"self_attn.q_proj.weight", a.width * block.attention.q_width()},
                                      {"self_attn.k_proj.weight", a.width * block.attention.kv_width()},
                                      {"self_attn.v_proj.weight", a.width * block.attention.kv_width()},
                                      {"self_attn.o_proj.weight", a.width * block.attention.q_width()},
                                      {"post_attention_layernorm.weight", a.width},
                                      {"mlp.gate_proj.weight", a.width * block.ffn.width},
                                      {"mlp.down_proj.weight", a.width * block.ffn.width},
                                      {"mlp.up_proj.weight", a.width * block.ffn.width}}};
  for (Section& section : sections) section.offset = take(a.layers() * section.count);
  const uint64_t final_norm = take(a.width);
  take(a.context * block.attention.head_dim);  // cosines and sines, which everybody computes again
  const uint64_t head = a.tied ? embedding : take(a.vocab * a.width);
  if (offset != file.size()) {
    return fail(ErrorCode::corrupt,
                "reading {}: its header describes a file of {} bytes, found {}; is this a complete "
                "llama2.c model?",
                path, offset, file.size());
  }

  for (TensorSpec& spec : tensor_specs(a)) {
    uint64_t at = spec.name == "lm_head.weight" ? head : spec.name == "model.norm.weight" ? final_norm : embedding;
    for (const Section& section : sections) {
      if (!spec.name.ends_with(section.name)) continue;
      const int64_t layer = std::atoll(spec.name.c_str() + std::string_view("model.layers.").size());
      at = section.offset + static_cast<uint64_t>(layer * section.count) * 4;
    }
    model.tensors.push_back({std::move(spec.name), &kF32, spec.shape});
    model.stored.push_back({.file = 0, .offset = at});
  }
  return model;
}

}  // namespace

const ModelFormat kLlama2c = {
    .name = "llama2c", .description = "a llama2.c .bin file", .recognises = recognises, .open = open_llama2c};

}  // namespace thimble
