// What narrow blocks (narrower.h) begin with: rows and columns of the model's own matrices, those of the largest
// numbers.
//
//   Paper   Sung et al. 2022, arXiv:2206.06522, section 3: structural pruning by the sums of magnitudes, after Li et
//           al. 2017 (arXiv:1608.08710)
//   Stream  the columns of the embedding with the largest sums
//   FFN     the units with the largest sums over their rows of gate and up and their columns of down
//   Heads   of each head of keys the elements with the largest sums over their rows of v and their columns of o;
//           queries and keys keep every so many-th pair that turns, as narrow heads turn by those frequencies
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "models/model_source.h"

namespace thimble {

// Adds the magnitudes of a tensor, if there is one, to sums by its rows and by its columns; an empty vector is not
// wanted.
Result<void> add_magnitudes(const ModelSource& source, const std::string& name, std::vector<double>& rows,
                            std::vector<double>& columns);
// The places of the `count` largest, ascending; of equal ones the first.
std::vector<int64_t> places_of_largest(std::span<const double> sums, int64_t count);
// A row of a tensor as f32.
Result<void> decode_row(const ModelSource& source, const ModelTensor& tensor, int64_t row, std::vector<float>& to);

class NarrowWeights {
 public:
  // Of blocks that are `by` times as narrow; narrower() must have accepted it. `source` must outlive the result.
  static Result<NarrowWeights> choose(const ModelSource& source, int64_t by);

  // Whether the model has a tensor that the narrow one of this name ("model.layers.3.mlp.up_proj.weight") is a part of.
  bool has(const std::string& name) const;
  // Row `row` of the narrow tensor (a vector is one row).
  Result<void> read(const std::string& name, int64_t row, std::span<float> to);

 private:
  using Places = std::vector<int64_t>;  // ascending, of what stays
  struct Layer {
    Places units;            // of the FFN
    Places queries, keys;    // rows
    Places values, outputs;  // rows of v, columns of o
    Places turned;           // elements of one head of queries or keys
  };
  struct Part {
    const Places* rows = nullptr;     // of a matrix
    const Places* columns = nullptr;  // of it, or of a vector
  };

  NarrowWeights(const ModelSource& source, int64_t by) : source_(&source), by_(by) {}
  Result<const Layer*> layer(int64_t index);
  Result<Layer> choose_layer(int64_t index) const;
  Result<Part> part_of(const std::string& name);
  Result<void> add_sums(const std::string& name, std::vector<double>& rows, std::vector<double>& columns) const {
    return add_magnitudes(*source_, name, rows, columns);
  }

  const ModelSource* source_;
  int64_t by_;
  Places stream_;
  std::pair<int64_t, Layer> last_ = {-1, {}};  // the layer that was asked for last
};

}  // namespace thimble
