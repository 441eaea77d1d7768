#include "methods/transform.h"

#include "core/nearest.h"
#include "ops/transform.h"

namespace thimble {

std::span<const Transform* const> transforms() {
  static constexpr const Transform* kTable[] = {&kMagnitude, &kWanda, &kRound, &kGptq, &kImportance};
  return kTable;
}

Result<const Transform*> transform_named(TransformKind kind, std::string_view name) {
  std::vector<const Transform*> some;
  for (const Transform* transform : transforms())
    if (transform->kind == kind) some.push_back(transform);
  return find_named<Transform>("--method", kind == TransformKind::prune ? "way to prune" : "way to quantise", some,
                               name);
}

ValueId without_smallest(const TransformedLayer& layer, ValueId scores, PruneGroup group) {
  const Shape& shape = layer.graph.value(layer.w).type.shape;
  const TransformSettings& s = layer.settings;
  using Group = KeepLargestAttributes::Group;
  KeepLargestAttributes attributes{group == PruneGroup::row ? Group::row : Group::matrix};
  if (s.of > 0) {
    attributes = {Group::run, s.of - s.keep, s.of};
  } else {
    const int64_t count = group == PruneGroup::row ? shape[1] : shape.count();
    attributes.drop = static_cast<int64_t>(static_cast<double>(count) * s.sparsity);
  }
  return layer.graph.emit(kKeepLargest, attributes, {layer.w, scores}, "pruned");
}

}  // namespace thimble
