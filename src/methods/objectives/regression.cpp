// Regression: a number that a text has, by a head on the hidden state of its last token.
//
//   Source   transformers, ...ForSequenceClassification with problem_type regression and one label
//   Loss     (x - y)^2, the mean over texts
#include "methods/objective.h"

namespace thimble {
namespace {

bool reads_nll(const OptionValues&) { return false; }

ValueId loss(ObjectiveBuilder& o) { return o.finish_squared(o.scores()); }

}  // namespace

const Objective kRegression = {.name = "regression",
                               .summary = "a number that a text has, by a head that trains with any method",
                               .paper = "",
                               .term = LossTerm::text,
                               .labels = Labels::Kind::number,
                               .reads_nll = reads_nll,
                               .loss = loss};

}  // namespace thimble
