// Operations on whole matrices: factorisations in double, whose vectors have fixed signs and order and whose bits do
// not depend on the number of threads.
#pragma once

#include "graph/op.h"

namespace thimble {

// Operations for which a thread is woken: below it, waking takes longer on a busy machine than the work itself.
inline constexpr int64_t kWorthAThread = 200'000;

// in: a [m, n], m >= n;  out: q [m, n] with orthonormal columns, r [n, n] upper with a diagonal of 0 or more; a = q r.
extern const Op kQr;
// in: s [n, n], of which the symmetric part is taken;  out: values [n], largest first, vectors [n, n], one a column,
// whose first largest element is positive.
extern const Op kEigh;
// in: s [n, n], symmetric positive definite;  out: l [n, n], lower, s = l l^T. Where s is not, l has numbers that are
// not finite.
extern const Op kCholesky;

// in: a [m, n];  out: u [m, count], s [count], largest first, v [count, n]: a is about u diag(s) v. Of each row of v
// the first largest element is positive. Vectors of singular values below 1e-12 of the largest are zeros.
struct SvdAttributes {
  int64_t count = 1;
  bool operator==(const SvdAttributes&) const = default;
};
extern const Op kSvd;

// in: x [m, n];  out: rows or columns [begin, begin + count) of it, in x's codec.
struct SliceAttributes {
  enum class Axis : uint8_t { rows, columns } axis = Axis::rows;
  int64_t begin = 0, count = 1;
  int64_t whole = 0;  // pad: rows or columns of the result
  bool operator==(const SliceAttributes&) const = default;
};
extern const Op kSlice;
// in: x;  out: x at rows or columns [begin, begin + count) of `whole`, zeros elsewhere.
extern const Op kPad;

struct GatherAttributes {
  enum class Axis : uint8_t { rows, columns } axis = Axis::rows;
  int64_t whole = 0;  // scatter: rows or columns of the result
  bool operator==(const GatherAttributes&) const = default;
};
// in: x [m, n], indices i32 [k], all within it;  out: its rows, or columns, at these indices, in x's codec.
extern const Op kGather;
// in: x [k, n] (or [m, k]), indices i32 [k], all within `whole`;  out: zeros, to which x is added there, in x's codec.
extern const Op kScatter;

// in: x [t, n], ids i32 [t], table f32 [k, n];  out: x, in y's codec, with row i of the table where a row's id is
// tokens[i].
struct ReplaceRowsAttributes {
  std::vector<int64_t> tokens;
  const Codec* codec = &kF32;  // of y
  bool operator==(const ReplaceRowsAttributes&) const = default;
};
extern const Op kReplaceRows;
extern const Op kReplaceRowsGrad;  // in: accumulator [k, n], ids, dy

struct TopKAttributes {
  int64_t count = 1;
  bool operator==(const TopKAttributes&) const = default;
};
// in: x f32 [n];  out: its `count` largest numbers, the largest first, and their indices i32 [count].
extern const Op kTopK;
// in: x f32 [m, n];  out: f32 [m, n], in every row the softmax of its `count` largest numbers, zeros elsewhere.
extern const Op kTopSoftmax;

// Places of a few numbers of every row of a matrix: their columns, as f32 whole numbers, so that files can hold them.
// What is no column of the row counts as the nearest one, so that no file reads or writes elsewhere.
// in: x f32 [m, n];  out: f32 [m, count], the places of the row's smallest magnitudes, ascending; of equal ones the
// first count, what is not a number counts as largest.
struct SmallestAttributes {
  int64_t count = 1;
  bool operator==(const SmallestAttributes&) const = default;
};
extern const Op kSmallestPlaces;
// in: x f32 [m, n], places f32 [m, k];  out: f32 [m, k], the row's numbers there. No gradient reaches places.
extern const Op kPickPlaces;
// in: x f32 [m, k], places f32 [m, k];  out: f32 [m, columns], zeros, to which the row's numbers are added there.
struct PutAttributes {
  int64_t columns = 1;
  bool operator==(const PutAttributes&) const = default;
};
extern const Op kPutPlaces;

// in: x f32 [n], starts i32 [n], the first row of the run of rows that each is in;  out: f32 [n], its run's sum.
extern const Op kSegmentSum;
// in: a, b, x, f32 [t, n] each;  out: y_t = sum over j != i of C_ij x_tj, C = sum of a_s b_s^T over the rows of t's
// granule.
extern const Op kOffDiagonal;

}  // namespace thimble
