// DPO: a model learns from preferences as if it were its own reward model.
//
//   Paper   Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290, equation 7
//   Margin  h = log pi(chosen)/pi_ref(chosen) - log pi(rejected)/pi_ref(rejected), summed over a reply's tokens
//   Loss    -log sigmoid(beta h), the mean over pairs; with label_smoothing e
//           -(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h)  (Mitchell 2023, "A note on DPO with noisy
//           preferences")
//   Reward  beta h
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"beta", 0.1, 0, 1e4, "how dearly a distance from the reference is paid for"},
    {"label_smoothing", 0, 0, 0.5, "the part of the preferences that is taken to be the wrong way round"},
};

ValueId loss(ObjectiveBuilder& o) {
  const double beta = o.option("beta"), wrong = o.option("label_smoothing");
  return o.finish({o.margin()}, [&](const std::vector<Expr>& x) {
    const Expr reward = beta * x[0], loss = minus_log_sigmoid(reward);
    return ObjectiveBuilder::Terms{wrong > 0 ? (1 - wrong) * loss + wrong * minus_log_sigmoid(-1 * reward) : loss,
                                   reward};
  });
}

}  // namespace

const Objective kDpo = {.name = "dpo",
                        .summary = "preference pairs against the model as the run begins: a logistic loss",
                        .paper = "Rafailov et al. 2023",
                        .options = kOptions,
                        .term = LossTerm::pair,
                        .reference = true,
                        .loss = loss,
                        .rate = 0.1};

}  // namespace thimble
