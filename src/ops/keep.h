// Operations of keepers (methods/keeper.h): they write activations in few bits for the backward pass, and read them.
#pragma once

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
  const Codec* codec;   // of what is restored
  int64_t columns = 0;  // of x
  bool operator==(const ByteAttributes&) const = default;
};
extern const Op kToBytes;    // in: x [t, d], ranges, running [2 d / group];  out: i32 [t, d / 4], four bytes each
extern const Op kFromBytes;  // in: what that made, ranges, running;  out: x [t, d]

}  // namespace thimble
