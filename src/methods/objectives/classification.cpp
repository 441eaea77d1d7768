// Classification: which of some classes a text is of, by a head on the hidden state of its last token.
//
//   Source   transformers, ...ForSequenceClassification with problem_type single_label_classification: logits of the
//            last token that is no padding, their cross-entropy, the mean over texts
//   Loss     (1 - e) nll + e mean_c -log p_c over the classes c, with e = label_smoothing
//   Choice   texts are packed, so that there is no padding; evaluations count the likelihood alone
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"label_smoothing", 0, 0, 0.999, "part of the class's probability that is shared by all classes"}};

TokenTerms terms(const OptionValues& options) {
  const double smoothing = options["label_smoothing"];
  return {.target = static_cast<float>(1 - smoothing), .uniform = static_cast<float>(smoothing)};
}

}  // namespace

const Objective kClassification = {.name = "classification",
                                   .summary = "the class of a text, by a head that trains with any method",
                                   .paper = "",
                                   .options = kOptions,
                                   .term = LossTerm::text,
                                   .labels = Labels::Kind::classes,
                                   .terms = terms};

}  // namespace thimble
