// Operations of a routed FFN (a mixture of experts). Tokens reach experts through offsets, so that every shape is fixed
// whatever the router says.
//
// Each of t tokens has `count` places. Places in use are sorted by expert, and by token within an expert: those of
// expert e are [offsets[e], offsets[e + 1]). Behind them lie the places that no expert was chosen for. What has a row a
// place is a matrix [t, count * n], which holds the same numbers as [t * count, n].
#pragma once

#include "graph/op.h"

namespace thimble {

struct ChooseAttributes {
  int64_t count = 1;  // experts of a token, at most
  // An expert takes ceil(capacity * tokens * count / experts) tokens of a granule of 512, the first ones; 0: all.
  double capacity = 0;
  bool operator==(const ChooseAttributes&) const = default;
};
// in: scores f32 [t, experts];  out: the `count` largest of every row, zeros elsewhere, of equal ones the first; those
// beyond an expert's capacity are zeros too.
extern const Op kChooseExperts;
// in: scores f32 [t, experts];  out: f32 [t, experts], in every row which part of the tokens of its granule chooses
// each expert, whatever its capacity. No gradient passes through it.
extern const Op kExpertLoad;

struct PlacesAttributes {
  int64_t count = 1;  // places of a token
  bool operator==(const PlacesAttributes&) const = default;
};
// in: gates f32 [t, experts], of which the first `count` of a row that are not 0 are in use;  out: the gates of places
// f32 [t, count], tokens i32 [t, count] (-1: not in use), offsets i32 [experts + 1].
extern const Op kRoute;
extern const Op kRouteGrad;  // in: dgates [t, count], tokens, offsets;  out: f32 [t, experts]
// The derivative of the gates of places along a direction.  in: that of gates f32 [t, experts], tokens, offsets.
extern const Op kRouteTangent;

// in: x [t, n], tokens [t, count];  out: [t, count * n], each place's token; zeros where it is not in use.
extern const Op kDispatch;
// in: rows [t, count * n], gates f32 [t, count] (absent: 1), tokens [t, count], addend [t, n] (or absent);  out: [t,
// n]: the addend and, in the order of places, gate times row.
extern const Op kCombine;
extern const Op kCombineGrad;  // in: dy [t, n], rows, gates, tokens;  out: drows, dgates

// y = x W_e^(T), the row of every place with its expert's matrix.  in: x [t, count * k], tokens, offsets, then one
// matrix an expert;  out: [t, count * n], zeros where a place is not in use.
struct ExpertLinearAttributes {
  int64_t count = 1;
  bool transposed = true;  // W_e is [n, k]; else [k, n]
  const Codec* codec = &kF32;
  bool narrow = false;  // few rows: through kernels/narrow.h; W must be transposed
  bool operator==(const ExpertLinearAttributes&) const = default;
};
extern const Op kExpertLinear;
// accumulator += left^T right over the places of one expert, cut where tokens pass from one granule to the next.
// in: accumulator [n, k], left [t, count * n], right [t, count * k], tokens, offsets.
struct ExpertDwAttributes {
  int64_t count = 1;
  int64_t expert = 0;
  bool operator==(const ExpertDwAttributes&) const = default;
};
extern const Op kExpertLinearDw;

}  // namespace thimble
