// A tiny model with a tokenizer, an adapter for it, and where they are on disk.
#pragma once

#include "adapters/written_adapter.h"
#include "models/gguf_writer.h"
#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "temporary_folder.h"

namespace thimble {

// 256 bytes as tokens, a merge, and two special ones.
inline TokenizerTables tiny_tokenizer() {
  TokenizerTables t{.model = "gpt2", .pre = "gpt-2"};
  const auto add = [&](std::string_view token, int type) {
    t.tokens.push_back(token);
    t.types.push_back(type);
  };
  add("<|end|>", 3);
  // GPT-2's characters for bytes: printable ones stand for themselves, the others follow from U+0100 on.
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const int point = itself ? byte : next++;
    const std::string text =
        point < 128 ? std::string(1, static_cast<char>(point))
                    : std::string{static_cast<char>(0xC0 | point >> 6), static_cast<char>(0x80 | (point & 63))};
    add(text, 1);
  }
  add("ab", 1);
  t.merges.push_back("a b");
  t.bos = t.eos = 0;
  t.chat_template =
      "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  return t;
}

// Large enough for blocks of 32 and small enough for a moment.
inline Architecture command_architecture() {
  Architecture a = llama({.vocab = 258,
                          .width = 64,
                          .layers = 2,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 16,
                          .ffn_width = 96,
                          .context = 64});
  for (Block& block : a.blocks) block.before_mixer.epsilon = block.before_ffn.epsilon = 0x1p-17;
  a.final_norm.epsilon = 0x1p-17;  // the same in f32
  return a;
}

struct TinyFiles {
  TemporaryFolder folder;
  MemoryModel model{command_architecture()};
  std::string gguf = folder.file("tiny.gguf"), adapter = folder.file("adapter");
  std::vector<float> a, b;  // of the adapter's one module
  static constexpr int64_t kRank = 2;
  static constexpr double kAlpha = 6;
  static constexpr const char* kModule = "model.layers.1.self_attn.q_proj";

  TinyFiles() {
    const TokenizerTables tokenizer = tiny_tokenizer();
    EXPECT_TRUE(write_gguf_model(gguf, model.architecture, model.tensors, model.rows(),
                                 {.name = "tiny", .tokenizer = &tokenizer}));
    const Random random(3, "adapter");
    for (uint64_t i = 0; i < kRank * 64; ++i) a.push_back(random.normal(i)), b.push_back(random.normal(1000 + i));
    write_lora(adapter, 1);
  }

  // The adapter, its A and B times `factor`.
  void write_lora(const std::string& to, float factor) const {
    const std::string name = std::string("base_model.model.") + kModule;
    write_folder(
        to, fmt::format(R"({{"peft_type":"LORA","r":{},"lora_alpha":{},"target_modules":["q_proj"]}})", kRank, kAlpha),
        {{name + ".lora_A.weight", {kRank, 64}, [&](int64_t i) { return factor * a[static_cast<size_t>(i)]; }},
         {name + ".lora_B.weight", {64, kRank}, [&](int64_t i) { return factor * b[static_cast<size_t>(i)]; }}});
  }

  // W + scale B A of the adapted matrix, element (row, column), in double.
  double merged(int64_t row, int64_t column) const {
    double delta = 0;
    for (int64_t r = 0; r < kRank; ++r) delta += double(b[row * kRank + r]) * a[r * 64 + column];
    return model.values.at(std::string(kModule) + ".weight")[row * 64 + column] + kAlpha / kRank * delta;
  }
};

}  // namespace thimble
