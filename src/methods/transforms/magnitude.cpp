// magnitude: the smallest weights become zero.
//
//   Paper   Han et al. 2015, arXiv:1506.02626
//   Scores  |W_ij|, compared within a whole layer; with a pattern n:m, among m consecutive inputs
#include "methods/transform.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

ValueId apply(const TransformedLayer& layer) {
  PointwiseBuilder b;
  b.output(abs(b.tensor()));
  const ValueId scores = layer.graph.emit(kPointwise, b.attributes(), {layer.w}, "scores");
  return without_smallest(layer, scores, PruneGroup::matrix);
}

}  // namespace

const Transform kMagnitude = {.name = "magnitude",
                              .summary = "the smallest weights of every layer become zero",
                              .paper = "Han et al. 2015, arXiv:1506.02626",
                              .kind = TransformKind::prune,
                              .apply = apply};

}  // namespace thimble
