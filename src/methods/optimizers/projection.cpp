#include "methods/optimizers/projection.h"

#include <algorithm>

#include "methods/optimizers/adamw.h"
#include "methods/optimizers/matrices.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr int64_t kOversampling = 8;

}  // namespace

Projection::Projection(const Shape& whole, int64_t rank) : whole_(whole) {
  const int64_t side = std::min(whole[0], whole[1]);
  rank_ = std::clamp<int64_t>(rank > 0 ? rank : side / 4, 1, side);
}

ValueId Projection::project(Graph& g, ValueId whole, ValueId basis, const std::string& name) const {
  return wide() ? inner(g, basis, whole, name) : product(g, whole, basis, name);
}

ValueId Projection::back(Graph& g, ValueId low, ValueId basis, const std::string& name) const {
  return wide() ? product(g, basis, low, name) : product_transposed(g, low, basis, name);
}

ValueId Projection::to_other(Graph& g, ValueId whole, ValueId x, const std::string& name) const {
  return wide() ? inner(g, whole, x, name) : product(g, whole, x, name);
}

ValueId Projection::to_side(Graph& g, ValueId whole, ValueId x, const std::string& name) const {
  return wide() ? product(g, whole, x, name) : inner(g, whole, x, name);
}

ValueId Projection::dominant(Graph& g, ValueId whole, uint64_t stream, int iterations, const std::string& name) const {
  const int64_t side = basis()[0], other = std::max(whole_[0], whole_[1]);
  const int64_t columns = std::min(side, rank_ + kOversampling);
  PointwiseBuilder noise;
  noise.shape({other, columns});
  noise.output(noise.normal_noise(stream));
  const ValueId start = g.emit(kPointwise, noise.attributes(), {}, name + ".noise");
  ValueId q = orthonormal(g, to_side(g, whole, start, name + ".y"), name + ".q");
  for (int i = 0; i < iterations; ++i)
    q = orthonormal(g, to_side(g, whole, orthonormal(g, to_other(g, whole, q, name + ".z"), name + ".qz"), name + ".y"),
                    name + ".q");
  const ValueId seen = to_other(g, whole, q, name + ".z");  // [other, columns]
  const ValueId vectors = eigenvectors(g, inner(g, seen, seen, name + ".gram"), name + ".eigh");
  const ValueId turned = product(g, q, vectors, name + ".turned");
  if (columns == rank_) return turned;
  return g.emit(kSlice, SliceAttributes{SliceAttributes::Axis::columns, 0, rank_}, {turned}, name);
}

std::vector<StateSpec> basis_states(const Projection& projection) {
  std::vector<StateSpec> states = adam_states(projection.low());
  states.push_back({.name = "basis", .shape = projection.basis(), .any_codec = false});
  return states;
}

}  // namespace thimble
