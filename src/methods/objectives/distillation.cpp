// Distillation: learning what a teacher predicts, token by token.
//
//   Paper   Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531
//   Loss    (1 - h) T^2 KL(q || p) + h nll, with q the teacher's and p the student's predictions, both softened by the
//           temperature T; h = hard; the mean over the tokens that are learnt
//   Choice  the teacher is a second, frozen model in the same plan, in the codec of its file; both have one tokenizer.
//           Its vocabulary is gone through in tiles together with the student's (linear_distillation)
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"temperature", 1, 0.01, 100, "that the logits of both models are divided by"},
                               {"hard", 0, 0, 0.999, "part of the text's own tokens in the loss"}};

ValueId loss(ObjectiveBuilder& o) {
  const double hard = o.option("hard");
  std::vector<std::pair<ValueId, double>> terms{{o.divergence(o.option("temperature")), 1 - hard}};
  if (hard > 0) terms.emplace_back(o.nll(), hard);
  return o.finish(terms);
}

}  // namespace

const Objective kDistillation = {.name = "distillation",
                                 .summary = "what a second model, --teacher, predicts",
                                 .paper = "Hinton et al. 2015",
                                 .options = kOptions,
                                 .teacher = true,
                                 .reads_nll = [](const OptionValues& options) { return options["hard"] > 0; },
                                 .loss = loss};

}  // namespace thimble
