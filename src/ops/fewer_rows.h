// Operations of techniques whose blocks work on some of a window's rows.
#pragma once

#include "graph/op.h"

namespace thimble {

// Of every `window` rows `count`, by a rule in which no row's place depends on the scores of rows behind it.
struct ChooseRowsAttributes {
  int64_t window = 1, count = 1;
  bool operator==(const ChooseRowsAttributes&) const = default;
};
// in: scores f32 [t, 1], starts i32 [t], positions i32 [t];  out, i32 [t / window * count] each: the chosen rows,
// ascending; the first chosen row of the sequence that each is in, as a number among the chosen; their positions.
extern const Op kChooseRows;

// in: x [t, n], y [k, n] (absent: zeros), rows i32 [k], each once;  out: x with the rows of y in these places.
extern const Op kPutRows;

}  // namespace thimble
