// KTO: replies that are said to be wanted or not, each judged by itself, from a point that the model's drift moves.
//
//   Paper   Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv:2402.01306,
//           equations 7 and 8
//   Reward  r = log pi(y|x)/pi_ref(y|x), summed over the reply's tokens
//   Drift   z = max(0, mean over the replies of a step of log pi(y'|x)/pi_ref(y'|x)), y' a reply to another prompt; no
//           gradient goes through it
//   Loss    d (1 - sigmoid(beta (r - z))) of a wanted reply, u (1 - sigmoid(beta (z - r))) of another; the mean over
//           replies; d = desirable_weight, u = undesirable_weight
//   Choice  z is of the whole step, however it is cut into micro-batches and passes, before any parameter moves; of an
//           evaluation, of all its examples. TRL takes that of a micro-batch
#include "methods/objectives/judged_replies.h"

namespace thimble {
namespace {

ValueId loss(ObjectiveBuilder& o) {
  const double beta = o.option("beta");
  return o.finish({o.margin(), o.label(), o.drift()}, [&](const std::vector<Expr>& x) {
    const Expr weight = reply_weight(o, x[1]);
    const Expr gained = x[0] - x[1] * max(x[2], 0.0);  // r - z where the reply is wanted, else z - r
    return ObjectiveBuilder::Terms{weight * (1 - sigmoid(beta * gained)), beta * (x[0] * x[1])};
  });
}

}  // namespace

const Objective kKto = {.name = "kto",
                        .summary = "replies that are wanted or not, against the model as the run begins",
                        .paper = "Ethayarajh et al. 2024",
                        .options = kJudgedReplyOptions,
                        .term = LossTerm::reply,
                        .reference = true,
                        .drift = true,
                        .loss = loss,
                        .rate = 0.1};

}  // namespace thimble
