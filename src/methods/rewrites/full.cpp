// full: every weight of the model trains; f32 masters.
#include "methods/rewrite.h"

namespace thimble {

const Rewrite kFull = {
    .name = "full", .summary = "every weight of the model trains", .paper = "", .trains_weights = true, .rate = 0.25};

}  // namespace thimble
