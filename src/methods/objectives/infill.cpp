// Filling in: next-token prediction of texts whose middle is moved to their end.
//
//   Paper    Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle", arXiv:2207.14255
//   Loss     next_token's, of the texts as text/infilled.h rearranges them
//   Choice   evaluations count texts as they are: the paper's claim is that these become no less likely
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"rate", 0.5, 0, 1, "part of the texts whose middle is moved"},
                               {"suffix_first", 0.5, 0, 1, "part of those whose suffix stands before the prefix"}};

}  // namespace

const Objective kInfill = {.name = "infill",
                           .summary = "texts whose middle is moved to their end, to learn to fill in",
                           .paper = "Bavarian et al. 2022",
                           .options = kOptions,
                           .infills = true};

}  // namespace thimble
