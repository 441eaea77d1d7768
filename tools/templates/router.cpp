// @NAME@: one line that says which experts a token goes to.
//
//   Paper    Authors and year, title, arXiv number, section
//   Gates    p = softmax(x W_r^T) in f32;  g_e = p_e where e is the largest, else 0
//   Balance  balance N sum_e f_e P_e (balance_loss)
//
// As made from the template: the likeliest expert, without a bound on what it takes.
#include "models/router.h"
#include "ops/experts.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

Routes routes(const RouterContext& c) {
  const TopKAttributes all{c.routing.experts};
  const ValueId probabilities = c.graph.emit(kTopSoftmax, all, {c.scores()}, c.name + "probabilities");
  const ChooseAttributes choose{c.routing.chosen};
  return {c.graph.emit(kChooseExperts, choose, {probabilities}, c.name + "gates"), balance_loss(c, probabilities)};
}

}  // namespace

const Router @SYMBOL@ = {.name = "@NAME@",
                         .summary = "one line for help and docs",
                         .paper = "Authors and year",
                         .balanced = true,
                         .balance = 0.01,
                         .routes = routes};

}  // namespace thimble
