// switch: every token to the one expert of the largest probability, within a capacity.
//
//   Paper     Fedus et al. 2022, "Switch Transformers", arXiv:2101.03961, section 2.1 and 2.2
//   Gates     p = softmax(x W_r^T) in f32;  g_e = p_e where e is the largest, else 0
//   Capacity  capacity x tokens / experts of every granule of 512 tokens; a token beyond it passes by on the residual
//             stream alone. In training only: what a token becomes must not depend on others where text is made.
//   Balance   alpha N sum_e f_e P_e, equation 4
#include "models/router.h"
#include "ops/experts.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

Routes routes(const RouterContext& c) {
  const ValueId probabilities =
      c.graph.emit(kTopSoftmax, TopKAttributes{c.routing.experts}, {c.scores()}, c.name + "probabilities");
  const ChooseAttributes choose{c.routing.chosen, c.trains ? c.routing.capacity : 0};
  return {c.graph.emit(kChooseExperts, choose, {probabilities}, c.name + "gates"), balance_loss(c, probabilities)};
}

}  // namespace

const Router kSwitchRouter = {.name = "switch",
                              .summary = "one expert a token, the likeliest, within a capacity; experts are balanced",
                              .paper = "Fedus et al. 2022",
                              .bounded = true,
                              .balanced = true,
                              .capacity = 1.25,
                              .balance = 0.01,
                              .routes = routes};

}  // namespace thimble
