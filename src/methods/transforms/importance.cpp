// importance: every weight is rounded so that the squared error of each output row, weighted by how large the inputs of
// its columns are, is small.
//
//   Paper   none; llama.cpp's importance matrix ("imatrix"), whose quantiser is followed bit for bit
//           (codecs/importance.h)
//   Update  of a block: scale, minimum and codes of least sum over j of s_j sqrt(variance + w_j^2) (w_j - q_j)^2
//   State   s_j, the sum of squares of input j, observed here or read from an imatrix file
#include "codecs/importance.h"

#include "methods/transform.h"
#include "ops/transform.h"

namespace thimble {
namespace {

ValueId apply(const TransformedLayer& layer) {
  return layer.graph.emit(kRoundWeighted, RoundWeightedAttributes{&layer.codec}, {layer.w, layer.statistic}, "rounded");
}

}  // namespace

const Transform kImportance = {.name = "importance",
                               .summary = "weights are rounded with the errors of large inputs counting more",
                               .paper = "",
                               .kind = TransformKind::quantize,
                               .observer = &kColumnSquares,
                               .rounds_to = [](const Codec& codec) { return weighted_encoder(codec) != nullptr; },
                               .apply = apply};

}  // namespace thimble
