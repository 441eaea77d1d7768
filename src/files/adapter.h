// LoRA adapters as PEFT keeps them: a folder with adapter_config.json and adapter_model.safetensors, whose tensors are
// "base_model.model.<module>.lora_A.weight" [rank, in] and "...lora_B.weight" [out, rank].
//
//   Paper   Hu et al. 2021, arXiv:2106.09685;  W + scale B A,  scale = alpha / rank, or alpha / sqrt(rank) for rsLoRA
//           (Kalajdzievski 2023, arXiv:2312.03732)
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "files/safetensors.h"

namespace thimble {

struct LoraConfig {
  int64_t rank = 8;
  double alpha = 8;
  double dropout = 0;
  bool rslora = false;
  std::vector<std::string> targets;  // last parts of module names: "q_proj"
  std::string target_pattern;        // instead of `targets`: a regular expression or "all-linear"
  std::string base_model;            // name or path, as written
  // What all chats that it was trained on were opened with; in a file of its own, system_prompt.txt.
  std::string system_prompt;
  // Modules that differ; a key is the module's name or its end ("layers.0.self_attn.q_proj").
  std::map<std::string, int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;

  int64_t rank_of(const std::string& module) const;
  double scale_of(const std::string& module) const;
};

struct LoraModule {
  std::string module;  // thimble's name without ".weight": "model.layers.0.self_attn.q_proj"
  int64_t rank = 0;
  double scale = 1;
  SafetensorsEntry a;  // [rank, in]
  SafetensorsEntry b;  // [out, rank]
};

struct LoraAdapter {
  LoraConfig config;
  std::vector<LoraModule> modules;  // sorted by name
  InputFile weights;                // entries' offsets count from its start
};

// Refuses what would change the arithmetic and is not LoRA as above (DoRA, trained biases, saved whole modules ...).
Result<LoraAdapter> open_lora_adapter(const std::string& folder);

enum class LoraPart { a, b };

struct LoraShape {
  std::string module;
  int64_t rank = 0, in = 0, out = 0;
};

// Gives rows [row, row + rows) of one matrix of a module, in f32.
using ReadLoraRows =
    std::function<Result<void>(const LoraShape& module, LoraPart part, int64_t row, int64_t rows, std::span<float> to)>;

// Makes the folder when it is missing. The configuration is written last, so that a broken save is no adapter.
Result<void> write_lora_adapter(const std::string& folder, const LoraConfig& config, std::span<const LoraShape> modules,
                                const ReadLoraRows& read);

}  // namespace thimble
