// A random adapter of every linear layer of a model, and of its embedding.
#pragma once

#include <memory>
#include <set>
#include <utility>

#include "adapters/modules.h"
#include "core/random.h"
#include "written_adapter.h"

namespace thimble {

constexpr int64_t kRank = 2;

// Numbers of its own for every tensor.
class RandomTensors {
 public:
  void add(const std::string& name, const Shape& shape) {
    const uint64_t first = std::exchange(next_, next_ + 100000);
    made.push_back({"base_model.model." + name, shape,
                    [seed = seed_, first](int64_t i) { return seed->normal(first + static_cast<uint64_t>(i)); }});
  }
  std::vector<WrittenTensor> made;

 private:
  std::shared_ptr<Random> seed_ = std::make_shared<Random>(7, "adapter");
  uint64_t next_ = 0;
};

// Modules of the file, each once, but the head, tables of positions and, without `by_head`, layers whose rows lie by
// head.
inline std::vector<ModelModule> whole_modules(const Architecture& a, bool by_head = false) {
  std::vector<ModelModule> modules;
  std::set<std::string> seen;
  for (const ModelModule& m : model_modules(a)) {
    if (m.suffix != "weight" || m.shape.rank() != 2 || m.owner == "lm_head" || (m.rows.run != 0 && !by_head)) continue;
    if (m.tensor == "model.embed_positions.weight" || !seen.insert(m.owner).second) continue;
    modules.push_back(m);
  }
  return modules;
}

inline std::vector<WrittenTensor> all_modules(const Architecture& a, std::set<std::string>& targets,
                                              bool embeddings = true) {
  RandomTensors tensors;
  for (const ModelModule& m : whole_modules(a)) {
    if (!m.linear && !embeddings) continue;
    targets.insert(m.owner);
    if (m.linear) {
      tensors.add(m.owner + ".lora_A.weight", {kRank, m.shape[1]});
      tensors.add(m.owner + ".lora_B.weight", {m.whole, kRank});
    } else {
      tensors.add(m.owner + ".lora_embedding_A", {kRank, m.shape[0]});
      tensors.add(m.owner + ".lora_embedding_B", {m.shape[1], kRank});
    }
  }
  return tensors.made;
}

}  // namespace thimble
