// Labels of texts, at all of their rows.
#pragma once

#include "graph/graph.h"

namespace thimble {

// in: targets i32 [t], of which a text has one in its last row (-1: none), starts i32 [t], the first row of each row's
// text.  out: i32 [t], the target of each row's text (0: there is none); f32 [t], 1 / rows of the text, 0 without one.
extern const Op kTextLabels;

}  // namespace thimble
