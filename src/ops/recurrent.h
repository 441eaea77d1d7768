// Operations of recurrent mixers: what a token becomes depends on a state that the tokens of its sequence before it
// have made. Where rows are whole sequences, starts [t] i32 say where the sequence of a row begins; where sequences go
// on over several runs, their states lie in slots, and a row at position 0 begins with a cleared one.
#pragma once

#include "graph/op.h"

namespace thimble {

// The delta rule, head by head, with a state S [value, key] that begins as 0 (Schlag et al. 2021, arXiv:2102.11174):
//   u_t = beta_t (v_t - S_(t-1) k_t);  S_t = S_(t-1) + u_t k_t^T;  o_t = S_t q_t
struct DeltaRuleAttributes {
  int64_t heads = 1;
  int64_t longest = 0;  // sequence; 0: all rows may be one
  bool operator==(const DeltaRuleAttributes&) const = default;
};
// in: q, k [t, heads * key], v [t, heads * value], beta f32 [t, heads], starts;  out: o, in v's codec.
extern const Op kDeltaRule;
extern const Op kDeltaRuleGrad;  // in: do, q, k, v, beta, starts;  out: dq, dk, dv, dbeta
// in: q, k, v, beta, states f32 [slots, heads, key * value], slots [t], positions [t];  out: o, states. Rows of one
// slot follow one another.
extern const Op kDeltaRuleCached;

// A causal convolution of every column by itself: y[t, c] = sum over j < taps of w[c, j] x[t - taps + 1 + j, c], with 0
// for rows before the sequence.  in: x [t, n], w f32 [n * taps], the
// taps of a column side by side, starts;  out: y, in x's codec.
extern const Op kShortConv;
extern const Op kShortConvDx;  // in: dy, w, starts
extern const Op kShortConvDw;  // in: accumulator [n * taps], dy, x, starts, over granules of 512 rows
// in: x, w, states f32 [slots, (taps - 1) * n], slots [t], positions [t];  out: y, states.
extern const Op kShortConvCached;

}  // namespace thimble
