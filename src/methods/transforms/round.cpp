// round: every weight becomes the nearest that the codec has, as its encoder finds it.
#include "methods/transform.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

ValueId apply(const TransformedLayer& layer) {
  PointwiseBuilder b;
  b.output(b.tensor(), &layer.codec);
  return layer.graph.emit(kPointwise, b.attributes(), {layer.w}, "rounded");
}

}  // namespace

const Transform kRound = {.name = "round",
                          .summary = "every weight becomes the nearest that the codec has",
                          .paper = "",
                          .kind = TransformKind::quantize,
                          .apply = apply};

}  // namespace thimble
