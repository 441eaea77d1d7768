// top_k and softmax_top_k: the experts of the largest scores, as mixtures of experts with open weights route.
//
//   Source  transformers, models/mixtral and models/olmoe (Jiang et al. 2024, arXiv:2401.04088; Muennighoff et al.
//           2024, arXiv:2409.02060)
//   Gates   top_k: the softmax of the chosen scores alone;  softmax_top_k: of all, of which the chosen ones are kept
#include "models/router.h"
#include "ops/experts.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

ValueId softmax(const RouterContext& c, ValueId scores, int64_t count, const char* name) {
  return c.graph.emit(kTopSoftmax, TopKAttributes{count}, {scores}, c.name + name);
}

// The balance needs the probabilities of all experts, whatever is multiplied with.
ValueId balance(const RouterContext& c, ValueId scores) {
  const bool needed = c.trains && c.routing.balance > 0;
  return needed ? balance_loss(c, softmax(c, scores, c.routing.experts, "probabilities")) : kNone;
}

Routes top_k(const RouterContext& c) {
  const ValueId scores = c.scores();
  return {softmax(c, scores, c.routing.chosen, "gates"), balance(c, scores)};
}

Routes softmax_top_k(const RouterContext& c) {
  const ValueId probabilities = softmax(c, c.scores(), c.routing.experts, "probabilities");
  return {c.graph.emit(kChooseExperts, ChooseAttributes{c.routing.chosen}, {probabilities}, c.name + "gates"),
          balance_loss(c, probabilities)};
}

}  // namespace

const Router kTopKRouter = {.name = "top_k",
                            .summary = "the experts of the largest scores, with the softmax of these (Mixtral)",
                            .paper = "Jiang et al. 2024",
                            .any_chosen = true,
                            .balanced = true,
                            .chosen = 2,
                            .balance = 0.01,
                            .routes = top_k};
const Router kSoftmaxTopKRouter = {.name = "softmax_top_k",
                                   .summary = "the experts of the largest scores, with the softmax of all (OLMoE)",
                                   .paper = "Muennighoff et al. 2024",
                                   .any_chosen = true,
                                   .balanced = true,
                                   .chosen = 2,
                                   .balance = 0.01,
                                   .routes = softmax_top_k};

}  // namespace thimble
