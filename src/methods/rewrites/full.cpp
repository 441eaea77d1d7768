// full: every weight of the model trains; f32 masters.
#include "methods/method.h"

namespace thimble {

const Method kFull = {
    .name = "full", .summary = "every weight of the model trains", .paper = "", .trains_weights = true};

}  // namespace thimble
