// SimPO: preferences without a reference, by likelihoods a token and a margin.
//
//   Paper   Meng et al. 2024, "SimPO", arXiv:2405.14734, equation 6
//   Margin  h = mean log pi(chosen) - mean log pi(rejected), over a reply's tokens
//   Loss    -log sigmoid(beta h - gamma), the mean over pairs; reward beta h
//   Choice  beta 2 and gamma/beta 0.25, the defaults of the authors' code
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta", 2, 0, 1e4, "how steep the loss is"},
    {"gamma", 0.5, 0, 1e4, "by how much the chosen reply's reward should be the larger"},
};

ValueId loss(ObjectiveBuilder& o) {
  const double beta = o.option("beta"), gamma = o.option("gamma");
  return o.finish({o.margin()}, [&](const std::vector<Expr>& x) {
    const Expr reward = beta * x[0];
    return ObjectiveBuilder::Terms{minus_log_sigmoid(reward - gamma), reward};
  });
}

}  // namespace

const Objective kSimpo = {.name = "simpo",
                          .summary = "preference pairs without a reference: likelihoods a token, and a margin",
                          .paper = "Meng et al. 2024",
                          .options = kOptions,
                          .term = LossTerm::pair,
                          .likelihood = Likelihood::mean,
                          .loss = loss,
                          .rate = 0.1};

}  // namespace thimble
