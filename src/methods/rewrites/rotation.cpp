#include "methods/rewrites/rotation.h"

#include "ops/blocks.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

// Unit blocks one under the other.
ValueId units(ModuleRewrite& m, int64_t blocks, int64_t size) {
  const std::string name = fmt::format("{} unit blocks of {}", blocks, size);
  const auto fill = [size](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) to[e - first] = e / size % size == e % size ? 1.0f : 0.0f;
  };
  return m.constant(name, {blocks * size, size}, Initial::table(fill, name));
}

// scale a + units * by
ValueId plus_units(ModuleRewrite& m, ValueId a, int64_t blocks, double scale, double by, const std::string& name) {
  const int64_t size = m.graph.value(a).type.shape[1];
  PointwiseBuilder b;
  const Expr x = b.tensor(), unit = b.tensor();
  b.output(scale * x + by * unit);
  return m.graph.emit(kPointwise, b.attributes(), {a, units(m, blocks, size)}, name);
}

// Where element e of a block is among the numbers above the diagonal, and its sign.
struct Above {
  int64_t at;
  float sign;
};
Above above(int64_t e, int64_t size) {
  const int64_t i = std::min(e / size, e % size), j = std::max(e / size, e % size);
  if (i == j) return {0, 0.0f};
  return {i * size - i * (i + 1) / 2 + j - i - 1, e / size < e % size ? 1.0f : -1.0f};
}

}  // namespace

ValueId skew_blocks(ModuleRewrite& m, ValueId numbers, int64_t size, const std::string& name) {
  const int64_t blocks = m.graph.value(numbers).type.shape[0];
  const std::string places = fmt::format("places in skew blocks of {}", size);
  const std::string signs = fmt::format("signs of skew blocks of {}", size);
  const auto fill_places = [size](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) to[e - first] = static_cast<float>(above(e, size).at);
  };
  const auto fill_signs = [size](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) to[e - first] = above(e, size).sign;
  };
  const ValueId at = m.constant(places, {size * size}, Initial::table(fill_places, places), &kI32);
  const ValueId sign = m.constant(signs, {size * size}, Initial::table(fill_signs, signs));
  const GatherAttributes columns{GatherAttributes::Axis::columns};
  const ValueId flat = m.graph.emit(kGather, columns, {numbers, at}, name + ".places");
  PointwiseBuilder b;
  const Expr number = b.tensor(), by = b.row();
  b.output(number * by);
  const ValueId with_signs = m.graph.emit(kPointwise, b.attributes(), {flat, sign}, name + ".signs");
  PointwiseBuilder rows;
  rows.shape({blocks * size, size});
  rows.output(rows.tensor());
  return m.graph.emit(kPointwise, rows.attributes(), {with_signs}, name);
}

ValueId cayley(ModuleRewrite& m, ValueId q, int64_t blocks, const std::string& name) {
  const ValueId sum = plus_units(m, q, blocks, 1, 1, name + ".sum");
  const ValueId inverse = m.graph.emit(kBlockInverse, BlockInverseAttributes{blocks}, {sum}, name + ".inverse");
  return plus_units(m, inverse, blocks, 2, -1, name);
}

ValueId cayley_series(ModuleRewrite& m, ValueId q, int64_t blocks, int64_t power, const std::string& name) {
  const BlockProductAttributes product{blocks};
  ValueId sum = q;  // of the highest powers, divided by the lower ones
  for (int64_t i = power; i > 1; --i) {
    const ValueId inner = plus_units(m, sum, blocks, 1, 2, fmt::format("{}.sum_{}", name, i));
    sum = m.graph.emit(kBlockProduct, product, {q, inner}, fmt::format("{}.power_{}", name, i));
  }
  return plus_units(m, sum, blocks, power > 1 ? 1 : 2, 1, name);
}

ValueId turned(ModuleRewrite& m, ValueId x, ValueId r, int64_t blocks, bool transposed, bool shared, const Codec* codec,
               const std::string& name) {
  const BlockLinearAttributes attributes{blocks, transposed, shared, codec};
  return m.graph.emit(kBlockLinear, attributes, {x, r}, name);
}

}  // namespace thimble
