// hinge: the loss of SLiC on the margin of DPO.
//
//   Paper   Zhao et al. 2023, SLiC-HF, arXiv:2305.10425, with the margin of Liu et al. 2023 (RSO), arXiv:2309.06657,
//           section 3.2
//   Loss    max(0, 1 - beta h), h as dpo's; reward beta h
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"beta", 0.1, 0, 1e4, "the inverse of the margin that a pair is drawn to"}};

ValueId loss(ObjectiveBuilder& o) {
  const double beta = o.option("beta");
  return o.finish({o.margin()}, [&](const std::vector<Expr>& x) {
    const Expr reward = beta * x[0];
    return ObjectiveBuilder::Terms{max(1 - reward, 0.0), reward};
  });
}

}  // namespace

const Objective kHinge = {.name = "hinge",
                          .summary = "preference pairs against the model as the run begins: a hinge loss",
                          .paper = "Zhao et al. 2023, Liu et al. 2023",
                          .options = kOptions,
                          .term = LossTerm::pair,
                          .reference = true,
                          .loss = loss,
                          .rate = 0.1};

}  // namespace thimble
