#include "models/router.h"

#include <algorithm>

#include "ops/experts.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {

std::span<const Router* const> routers() {
  static constexpr const Router* kTable[] = {&kSwitchRouter, &kHashRouter, &kTopKRouter, &kSoftmaxTopKRouter};
  return kTable;
}

const Router* find_router(std::string_view name) {
  const auto all = routers();
  const auto found = std::ranges::find(all, name, &Router::name);
  return found == all.end() ? nullptr : *found;
}

ValueId RouterContext::scores() const {
  return graph.emit(kLinear, LinearAttributes{.codec = &kF32}, {x, weight(name + "router.weight"), kNone, kNone},
                    name + "router");
}

ValueId balance_loss(const RouterContext& c, ValueId probabilities) {
  if (!c.trains || c.routing.balance == 0) return kNone;
  const ValueId load = c.graph.emit(kExpertLoad, ChooseAttributes{c.routing.chosen}, {probabilities}, c.name + "load");
  PointwiseBuilder b;
  const Expr probability = b.tensor(), part = b.tensor();
  b.output(probability * part * (c.routing.balance * static_cast<double>(c.routing.experts)));
  const ValueId products = c.graph.emit(kPointwise, b.attributes(), {probabilities, load}, c.name + "balance.products");
  return c.graph.emit(kReduce, ReduceAttributes{}, {products}, c.name + "balance");
}

}  // namespace thimble
