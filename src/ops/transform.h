// Operations that change the weights of a finished model: pruning, and rounding with error feedback.
#pragma once

#include "codecs/level_grid.h"
#include "graph/op.h"

namespace thimble {

// in: w f32 [m, n], scores f32 [m, n];  out: w with zeros in place of those elements of each group whose scores are
// smallest. Of equal scores the earlier elements go first.
struct KeepLargestAttributes {
  enum class Group : uint8_t { matrix, row, run };  // run: `length` consecutive elements of a row
  Group group = Group::row;
  int64_t drop = 0;    // elements of each group
  int64_t length = 0;  // of a run; n is a multiple of it
  bool operator==(const KeepLargestAttributes&) const = default;
};
extern const Op kKeepLargest;

// in: h f32 [n, n], symmetric, positive semidefinite;  out: u [n, n] upper, order i32 [n], with
// u^T u = (h + damp mean(diag h) I)^-1, its rows and columns in that order: as they are, or `descending` by diag h.
// Columns that are zero count as 1 on the diagonal. Where h is indefinite, u has numbers that are not finite.
struct InverseFactorAttributes {
  double damp = 0.01;
  bool descending = false;
  bool operator==(const InverseFactorAttributes&) const = default;
};
extern const Op kInverseFactor;

// in: w f32 [m, n], u f32 [n, n], order i32 [n] or none;  out: w rounded to the levels of `codec`, column by column in
// that order; what rounding changed is made up for by the columns that follow, as u says (GPTQ).
struct RoundColumnsAttributes {
  const Codec* codec = nullptr;  // with a level_grid()
  bool operator==(const RoundColumnsAttributes&) const = default;
};
extern const Op kRoundColumns;

// in: w f32 [m, n], importance f32 [n];  out: w rounded to `codec`, where errors count as their columns are important.
struct RoundWeightedAttributes {
  const Codec* codec = nullptr;  // with a weighted_encoder()
  bool operator==(const RoundWeightedAttributes&) const = default;
};
extern const Op kRoundWeighted;

}  // namespace thimble
