#include "methods/optimizers/projection.h"

#include <algorithm>

#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr int64_t kOversampling = 8;

ValueId product(Graph& g, ValueId x, ValueId w, bool transposed, const std::string& name) {
  return g.emit(kLinear, LinearAttributes{.terms = {{transposed, 1}}}, {x, w, kNone, kNone}, name);
}

// left^T right, of columns `l` and `r`.
ValueId inner(Graph& g, ValueId left, ValueId right, const std::string& name) {
  const Shape shape{g.value(left).type.shape[1], g.value(right).type.shape[1]};
  const ValueId zero = g.emit(kZeros, ZerosAttributes{shape}, {}, name + ".zero");
  return g.emit(kLinearDw, ScaleAttributes{}, {zero, left, right}, name);
}

ValueId orthonormal(Graph& g, ValueId x, const std::string& name) {
  const bool wanted[] = {true, false};
  return g.emit(kQr, {}, {x}, name, wanted);
}

}  // namespace

Projection::Projection(const Shape& whole, int64_t rank) : whole_(whole) {
  const int64_t side = std::min(whole[0], whole[1]);
  rank_ = std::clamp<int64_t>(rank > 0 ? rank : side / 4, 1, side);
}

ValueId Projection::project(Graph& g, ValueId whole, ValueId basis, const std::string& name) const {
  return wide() ? inner(g, basis, whole, name) : product(g, whole, basis, false, name);
}

ValueId Projection::back(Graph& g, ValueId low, ValueId basis, const std::string& name) const {
  return wide() ? product(g, basis, low, false, name) : product(g, low, basis, true, name);
}

ValueId Projection::dominant(Graph& g, ValueId whole, uint64_t stream, int iterations, const std::string& name) const {
  const int64_t side = basis()[0], other = std::max(whole_[0], whole_[1]);
  const int64_t columns = std::min(side, rank_ + kOversampling);
  // Products with the matrix and its transpose, whichever way it lies: [side, c] from [other, c] and back.
  const auto to_side = [&](ValueId x) {
    return wide() ? product(g, whole, x, false, name + ".y") : inner(g, whole, x, name + ".y");
  };
  const auto to_other = [&](ValueId x) {
    return wide() ? inner(g, whole, x, name + ".z") : product(g, whole, x, false, name + ".z");
  };
  PointwiseBuilder noise;
  noise.shape({other, columns});
  noise.output(noise.normal_noise(stream));
  const ValueId start = g.emit(kPointwise, noise.attributes(), {}, name + ".noise");
  ValueId q = orthonormal(g, to_side(start), name + ".q");
  for (int i = 0; i < iterations; ++i)
    q = orthonormal(g, to_side(orthonormal(g, to_other(q), name + ".qz")), name + ".q");
  const ValueId seen = to_other(q);  // [other, columns]
  const bool vectors_only[] = {false, true};
  const ValueId vectors =
      g.emit_all(kEigh, {}, {inner(g, seen, seen, name + ".gram")}, name + ".eigh", vectors_only)[1];
  const ValueId turned = product(g, q, vectors, false, name + ".turned");
  if (columns == rank_) return turned;
  return g.emit(kSlice, SliceAttributes{SliceAttributes::Axis::columns, 0, rank_}, {turned}, name);
}

}  // namespace thimble
