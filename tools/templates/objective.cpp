// @NAME@: one line that says what is made smaller.
//
//   Paper   Authors and year, arXiv number, equation
//   Loss    weight nll, the mean over the tokens that are learnt
//   Choice  where this differs from the paper
//
// As made from the template: the likelihood of tokens times a weight. A loss of pairs, of replies, of labelled texts or
// with a teacher is a function `loss` in place of `terms`: see simpo.cpp, kto.cpp, regression.cpp, distillation.cpp.
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"weight", 1, 1e-6, 1e6, "factor of the loss"}};

TokenTerms terms(const OptionValues& options) { return {.target = static_cast<float>(options["weight"])}; }

}  // namespace

const Objective @SYMBOL@ = {
    .name = "@NAME@", .summary = "one line for help and docs", .paper = "arXiv number", .options = kOptions, .terms = terms};

}  // namespace thimble
