// apo_zero_unpaired: what is wanted becomes likelier than the reference has it, all else less likely.
//
//   Paper   D'Oosterlinck et al. 2024, "Anchored Preference Optimization", arXiv:2408.06266, equation 7 (APO-zero),
//           each reply by itself, as TRL has it
//   Reward  r as kto's
//   Loss    d (1 - sigmoid(beta r)) of a wanted reply, u sigmoid(beta r) of another; the mean over replies;
//           d = desirable_weight, u = undesirable_weight
#include "methods/objectives/judged_replies.h"

namespace thimble {
namespace {

ValueId loss(ObjectiveBuilder& o) {
  const double beta = o.option("beta");
  return o.finish({o.margin(), o.label()}, [&](const std::vector<Expr>& x) {
    const Expr weight = reply_weight(o, x[1]);
    return ObjectiveBuilder::Terms{weight * (1 - sigmoid(beta * x[0])), beta * (x[0] * x[1])};
  });
}

}  // namespace

const Objective kApoZeroUnpaired = {.name = "apo_zero_unpaired",
                                    .summary = "replies that are wanted or not: likelier or less likely than at first",
                                    .paper = "D'Oosterlinck et al. 2024",
                                    .options = kJudgedReplyOptions,
                                    .term = LossTerm::reply,
                                    .reference = true,
                                    .loss = loss,
                                    .rate = 0.1};

}  // namespace thimble
