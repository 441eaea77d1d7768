// Operations of keepers (methods/keeper.h): they write activations in few bits for the backward pass, and read them.
#pragma once

#include <vector>

#include "graph/op.h"
#include "kernels/rows.h"

namespace thimble {

// Granules of 512 rows, the last of which may be shorter.
int64_t granules_of(int64_t rows);

// in: x [t, d];  out: [granules, 2 d / group] f32: of each granule and group of columns max(0, -min x), max(0, max x).
struct RangeAttributes {
  int64_t group = 1;
  bool operator==(const RangeAttributes&) const = default;
};
extern const Op kGroupRanges;

// Numbers as bytes between bounds: those of `running` and of the granule, mixed; where nothing is known yet (0), those
// of the granule.
struct ByteAttributes {
  int64_t group = 1;
  float decay = 0;      // part of `running` in the mixture
  uint64_t stream = 0;  // of the noise that is added before rounding down; 0: to nearest
  bool e4m3 = false;    // 8-bit floats of x 448 / max|x| instead, without `running`
  const Codec* codec;   // of what is restored
  int64_t columns = 0;  // of x
  bool operator==(const ByteAttributes&) const = default;
};
extern const Op kToBytes;  // in: x [t, d], ranges, running [2 d / group] (absent: nothing is known);  out: i32 [t, d /
                           // 4], four bytes each
extern const Op kFromBytes;  // in: what that made, ranges, running;  out: x [t, d]

// The derivative of an activation function as a step function: levels[i] between edges i - 1 and i.
struct StepSlope {
  int bits = 1;
  std::vector<float> edges, levels;  // one edge fewer than levels, of which there are 2^bits at most
  bool operator==(const StepSlope&) const = default;
};
// in: x [t, d];  out: i32 [t, words], the number of each level in `bits` bits.
extern const Op kSlopeCodes;
// in: dy [t, d], what that made, up, f (both of dy's shape, or absent: 1);  out: dgate = dy up slope, dup = dy f.
extern const Op kSlopeGradient;

// A norm without gain and bias, h, and by what x was multiplied, r.
struct UnitNormAttributes {
  double epsilon = 1e-5;
  float offset = 0;   // gains are used as offset + gain
  int64_t group = 1;  // columns that are normalised together
  bool centred = false;
  bool operator==(const UnitNormAttributes&) const = default;
};
extern const Op kUnitNorm;       // in: x [t, d];  out: h [t, d], r [t, d / group] f32
extern const Op kUnitNormDx;     // in: dy, h, r, gain [d], addend (both may be absent);  out: dx
extern const Op kUnitNormDgain;  // in: accumulator [d], dy, h

// A part of the rows of each granule, so that sums over rows are right on average.
struct SampleAttributes {
  double rate = 1;      // part of the rows
  uint64_t stream = 0;  // of the draws
  float scale = 1;      // of the product
  bool operator==(const SampleAttributes&) const = default;
};
int64_t sampled_rows(int64_t rows, double rate);
// in: x [t, d];  out: rows [k, d] of x, which they are i32 [k], how much each counts [k].
extern const Op kSampleRows;
// accumulator += scale left^T right over the sampled rows.  in: accumulator [n, d], left [t, n], what that made of
// right.
extern const Op kSampledDw;

}  // namespace thimble
