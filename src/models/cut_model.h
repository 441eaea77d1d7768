// A model with fewer heads and fewer units in its FFNs: what is coupled with a head or a unit is left out of all
// matrices, and what stays is as it was.
//
//   Paper   Zhang et al. 2025 (LoRAM), arXiv:2502.13533, "pruned full-rank weights"; coupled structures as in Ma et al.
//           2023 (LLM-Pruner), arXiv:2305.11627, section 3.1
//   Heads   a head of keys and values goes with the heads of queries that read it: rows of q, k and v, columns of o
//   Units   a unit of an FFN: a row of gate and of up, a column of down
//   Choice  every block keeps as many, as config.json has one number for all; the authors leave the first four and the
//           last two blocks whole
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/model_source.h"

namespace thimble {

struct KeptParts {
  int64_t heads = 0, kv_heads = 0, head_dim = 0, units = 0;  // of the whole model
  struct Layer {
    std::vector<int64_t> kv_heads, units;  // that stayed, ascending
    bool operator==(const Layer&) const = default;
  };
  std::vector<Layer> layers;
  bool operator==(const KeptParts&) const = default;
};

// By chance (LoRAM-Rand), or the ones with the largest sums of magnitudes over all that is coupled with them.
enum class CutBy { random, magnitude };

// What stays where `ratio` of the heads and of the units goes: one head of keys at least, and units in multiples of 32.
// `key`: by which chance draws. Reads the blocks' matrices once for magnitudes. Errors where heads or units of the
// architecture are not alike.
Result<KeptParts> choose_kept(const ModelSource& source, double ratio, CutBy by, uint64_t key);

// The model with these parts alone. They are of `source`.
Result<std::unique_ptr<ModelSource>> cut_model(std::unique_ptr<ModelSource> source, const KeptParts& kept);

// Of a layer's matrix: which of the whole one's rows and columns stayed; nothing: all.
struct KeptPlaces {
  std::optional<std::vector<int64_t>> rows, columns;
  int64_t whole_rows = 0, whole_columns = 0;  // of what is not whole
};
// By the module's last name, "q_proj".
KeptPlaces kept_places(const KeptParts& kept, size_t layer, std::string_view module);
// Whether `whole` is the architecture that they are parts of.
Result<void> check_whole(const KeptParts& kept, const Architecture& whole, const std::string& source);

// In the folder of the cut model.
inline constexpr const char* kKeptFile = "/kept.json";
Result<void> write_kept(const std::string& folder, const KeptParts& kept);
// Checked: places are in range, in order, and as many in every layer.
Result<KeptParts> read_kept(const std::string& folder);

}  // namespace thimble
