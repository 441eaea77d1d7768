// The derivative of rms_norm and layer_norm along a direction.
//
//   h the normalised groups, r what they were multiplied with, w their width:
//     h' = r (x' - mean(x') - h mean(h x')), mean(x') of layer_norm alone: the matrix is symmetric, so that it is the
//     operation of the gradient
//     y' = (offset + gain) h' + gain' h + bias'
#include "ops/keep.h"
#include "ops/norm_parts.h"
#include "ops/pointwise.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {

Result<void> norm_tangent(Tangents& tangents, const Node& node, bool centred) {
  Graph& g = tangents.graph();
  const ValueId x = node.in[0], gain = node.in[1], bias = node.in.size() > 2 ? node.in[2] : kNone;
  const ValueId dx = tangents.of(x), dgain = tangents.of(gain), dbias = tangents.of(bias);
  const ValueId broadcast = gain != kNone ? gain : bias;
  const int64_t columns = broadcast == kNone ? g.value(x).type.shape[1] : g.value(broadcast).type.shape[0];
  const NormAttributes& a = node.as<NormAttributes>();
  const UnitNormAttributes unit{.epsilon = a.epsilon, .group = a.group > 0 ? a.group : columns, .centred = centred};
  const std::string name = tangents.name(node.out[0]);
  const auto h = g.emit_all(kUnitNorm, unit, {x}, name + ".unit");
  ValueId dh = kNone;
  if (dx != kNone) dh = g.emit(kUnitNormDx, unit, {dx, h[0], h[1], kNone, kNone}, name);
  if (dh != kNone && gain == kNone && dbias == kNone) {
    tangents.set(node.out[0], dh);
    return {};
  }
  // Gains and biases repeat over the columns of a row: the elements lie in rows of that many.
  PointwiseBuilder b;
  b.shape({0, columns});
  std::vector<ValueId> in{dh != kNone ? dh : h[0]};
  const Expr first = b.tensor();
  Expr sum = dh != kNone ? first : 0 * first;
  if (dh != kNone && gain != kNone) sum = sum * (b.row() + static_cast<double>(a.offset)), in.push_back(gain);
  if (dgain != kNone) {
    Expr unit_rows = first;
    if (dh != kNone) unit_rows = b.tensor(), in.push_back(h[0]);
    const Expr moved = b.row();
    sum = sum + unit_rows * moved, in.push_back(dgain);
  }
  if (dbias != kNone) sum = sum + b.row(), in.push_back(dbias);
  b.store(first, sum);
  tangents.set(node.out[0], g.emit(kPointwise, b.attributes(), in, name));
  return {};
}

}  // namespace thimble
