#include "methods/rewrites/ladder.h"

#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {

ValueId ladder_mixed(SideRewrite& side, ValueId tapped, ValueId gate, double slope, std::string name) {
  PointwiseBuilder b;
  const Expr own = b.tensor(), other = b.tensor();
  const Expr z = side.graph.value(gate).type.shape.count() == 1 ? b.scalar() : b.row();
  const Expr m = sigmoid(z * slope);
  b.output(other + m * (own - other), side.attributes.codec);
  return side.graph.emit(kPointwise, b.attributes(), {side.stream, tapped, gate}, std::move(name));
}

}  // namespace thimble
