// @NAME@: weights below half of a layer's largest become zero.
//
//   Paper   Authors and year, arXiv number, equation
//   Scores  what is compared, and within what
//
// As made from the template, so that every test passes: write the method over it.
#include "methods/transform.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

// Emits the new weight, f32 [out, in], of layer.w, f32 [out, in]. layer.statistic is what the observer gathered of the
// layer's inputs; without one it is none.
ValueId apply(const TransformedLayer& layer) {
  const ReduceAttributes largest{Reduce::maximum, ReduceOver::all};
  PointwiseBuilder size;
  size.output(abs(size.tensor()));
  const ValueId sizes = layer.graph.emit(kPointwise, size.attributes(), {layer.w}, "sizes");
  const ValueId most = layer.graph.emit(kReduce, largest, {sizes}, "largest");
  PointwiseBuilder b;
  const Expr w = b.tensor(), bound = b.scalar();
  b.output(w * greater(abs(w), 0.5 * bound));
  return layer.graph.emit(kPointwise, b.attributes(), {layer.w, most}, "pruned");
}

}  // namespace

const Transform @SYMBOL@ = {.name = "@NAME@",
                             .summary = "weights below half of a layer's largest become zero",
                             .paper = "",
                             .kind = TransformKind::prune,
                             .apply = apply};

}  // namespace thimble
