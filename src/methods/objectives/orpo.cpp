// ORPO: learning the chosen reply, and the odds of it against the rejected one, in one loss.
//
//   Paper   Hong et al. 2024, "ORPO: Monolithic Preference Optimization without Reference Model", arXiv:2403.07691,
//           equations 4 to 7
//   Odds    odds(y) = P(y) / (1 - P(y)),  log P(y) = mean log pi over the tokens of the reply
//   Loss    mean nll of the chosen reply - lambda log sigmoid(log odds(chosen) - log odds(rejected)), the mean over
//           pairs; reward lambda (mean log pi(chosen) - mean log pi(rejected))
//   Choice  1 - P is taken to be 2^-24 at least, which f32 tells from 0
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"lambda", 0.1, 0, 1e4, "the part of the odds ratio in the loss"}};

ValueId loss(ObjectiveBuilder& o) {
  constexpr double kLeast = 0x1p-24;
  const double lambda = o.option("lambda");
  PointwiseBuilder b;
  const Expr likelihood = b.tensor();
  b.output(likelihood - log(max(1 - exp(likelihood), kLeast)));
  const ValueId odds = o.pointwise(b, {o.mean_likelihood()}, "odds");
  const std::vector<ValueId> of{o.chosen_nll(), o.difference(odds, "odds.ratio"), o.margin()};
  return o.finish(of, [&](const std::vector<Expr>& x) {
    return ObjectiveBuilder::Terms{x[0] + lambda * minus_log_sigmoid(x[1]), lambda * x[2]};
  });
}

}  // namespace

const Objective kOrpo = {.name = "orpo",
                         .summary = "preference pairs without a reference: the chosen reply is learnt, with its odds",
                         .paper = "Hong et al. 2024",
                         .options = kOptions,
                         .term = LossTerm::pair,
                         .likelihood = Likelihood::mean,
                         .loss = loss};

}  // namespace thimble
