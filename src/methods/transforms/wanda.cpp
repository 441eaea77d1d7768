// wanda: weights become zero that are small, or that meet small inputs.
//
//   Paper   Sun et al. 2023, arXiv:2306.11695, equation 1
//   Scores  |W_ij| ||X_j||_2, compared within an output's row; with a pattern n:m, among m consecutive inputs
//   Choice  the norm is over all rows that were observed. The authors' code divides it by the number of sequences,
//           which changes no comparison.
#include "methods/transform.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

ValueId apply(const TransformedLayer& layer) {
  PointwiseBuilder b;
  const Expr w = b.tensor(), squares = b.row();
  b.output(abs(w) * sqrt(squares));
  const ValueId scores = layer.graph.emit(kPointwise, b.attributes(), {layer.w, layer.statistic}, "scores");
  return without_smallest(layer, scores, PruneGroup::row);
}

}  // namespace

const Transform kWanda = {.name = "wanda",
                          .summary = "weights become zero that are small, or that meet small inputs",
                          .paper = "Sun et al. 2023, arXiv:2306.11695",
                          .kind = TransformKind::prune,
                          .observer = &kColumnSquares,
                          .apply = apply};

}  // namespace thimble
