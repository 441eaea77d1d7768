// Gates of experts, and what keeps these evenly used.
//
//   Paper   Fedus et al. 2021, arXiv:2101.03961, eq. 4 to 6
//   Loss    of a token: balance experts sum over e of (part of the granule's tokens that choose e) (probability of e)
#include "methods/rewrites/expert_gates.h"

#include "ops/experts.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {

ValueId expert_gates(ModuleRewrite& m, ValueId x, ValueId router, const ExpertGates& how, std::string_view name) {
  Graph& g = m.graph;
  const std::string named = m.name(name);
  const LinearAttributes product{.codec = &kF32, .narrow = m.attributes.narrow};
  const ValueId scores = g.emit(kLinear, product, {x, router, kNone, kNone}, named + "_scores");
  if (m.training && how.balance > 0) {
    const ValueId likely = g.emit(kTopSoftmax, TopKAttributes{how.experts}, {scores}, named + "_probabilities");
    const ValueId load = g.emit(kExpertLoad, ChooseAttributes{how.chosen}, {likely}, named + "_load");
    PointwiseBuilder b;
    const Expr probability = b.tensor(), part = b.tensor();
    b.output(probability * part * (how.balance * static_cast<double>(how.experts)));
    const ValueId each = g.emit(kPointwise, b.attributes(), {likely, load}, named + "_balance.products");
    m.add_loss(g.emit(kReduce, ReduceAttributes{}, {each}, named + "_balance"));
  }
  return g.emit(kTopSoftmax, TopKAttributes{how.chosen}, {scores}, named + "_gates");
}

}  // namespace thimble
