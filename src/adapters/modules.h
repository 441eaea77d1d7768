// The modules of a model as the files of the field name them, and which of them an adapter is for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "files/json.h"
#include "methods/rewrite.h"
#include "models/architecture.h"

namespace thimble {

// A tensor of a model among its modules in the file's terms ("transformer.h.0.attn.c_attn").
struct ModelModule {
  std::string tensor;    // thimble's, "model.layers.0.self_attn.q_proj.weight"
  std::string name;      // the same without ".weight" or ".bias"
  std::string owner;     // the file's module
  std::string suffix;    // "weight", "bias"
  Shape shape;           // thimble's
  RowsInFile rows;       // of the owner's output rows, those of the tensor
  int64_t whole = 0;     // the owner's output rows
  int64_t head_dim = 0;  // not 0: its rows are those of heads that are rotated
  int64_t in_group = 1;  // as in AdaptedModule
  bool interleaved =
      false;  // and the model pairs neighbours (Rope::Layout) where the family's Hugging Face files do not
  bool transposed = false;  // the owner's weight lies [in, out] in the file (GPT-2)
  bool linear = false;      // a matrix that is multiplied with, the head included; else an embedding, a gain or a bias
  // A linear layer that is adapted where none is named: of a block, and neither an expert's, as PEFT does it where
  // their matrices are one tensor, nor one that scores experts or heads, which has few rows.
  bool by_default = false;
};

// Every tensor of the model; the head too where it is the embedding.
std::vector<ModelModule> model_modules(const Architecture& architecture);

// PEFT's target_modules, exclude_modules, layers_to_transform and layers_pattern.
class Selection {
 public:
  // `source` names the file in messages.
  static Result<Selection> read(const nlohmann::ordered_json& config, const std::string& source);
  // Whether a module of this name is adapted (check_target_module_exists in PEFT).
  Result<bool> takes(const ModelModule& module) const;

 private:
  struct Names;
  Result<bool> targeted(const ModelModule& module) const;
  std::shared_ptr<const Names> targets_, excluded_;
  std::optional<std::vector<int64_t>> layers_;
  std::vector<std::string> layer_patterns_;
  std::string source_;
};

// The value of the first key that matches the name, in the order of the file (get_pattern_key in PEFT); nullptr: none.
Result<const nlohmann::ordered_json*> by_pattern(const nlohmann::ordered_json& patterns, const std::string& name,
                                                 const std::string& source);

// Whether modules_to_save names this tensor's module, or one that it is in.
bool is_saved(const nlohmann::ordered_json& modules_to_save, const ModelModule& module);

// The embedding and the head, those of them that modules_to_save names.
std::vector<ModelModule> saved_ends(const nlohmann::ordered_json& config, const Architecture& architecture);

}  // namespace thimble
