// IPO: preferences as distances to a margin, which no pair is drawn beyond.
//
//   Paper   Azar et al. 2023, "A General Theoretical Paradigm to Understand Learning from Human Preferences",
//           arXiv:2310.12036, equation 17
//   Margin  h as dpo's, a token: the mean over a reply's tokens in place of the sum, as the authors advised the makers
//           of TRL
//   Loss    (h - 1/(2 beta))^2, beta being the paper's tau; reward beta h
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"beta", 0.1, 1e-6, 1e4, "the margin that is aimed at is 1/(2 beta)"}};

ValueId loss(ObjectiveBuilder& o) {
  const double beta = o.option("beta");
  return o.finish({o.margin()}, [&](const std::vector<Expr>& x) {
    const Expr off = x[0] - 1 / (2 * beta);
    return ObjectiveBuilder::Terms{off * off, beta * x[0]};
  });
}

}  // namespace

const Objective kIpo = {.name = "ipo",
                        .summary = "preference pairs against the model as the run begins: a squared loss",
                        .paper = "Azar et al. 2023",
                        .options = kOptions,
                        .term = LossTerm::pair,
                        .reference = true,
                        .likelihood = Likelihood::mean,
                        .loss = loss,
                        .rate = 0.1};

}  // namespace thimble
