// The coupling of reversible networks: a stream of rows takes up a function of another one, so that what it was can be
// recovered from what it became.
#pragma once

#include <string>

#include "graph/graph.h"

namespace thimble {

// y = scale x + by f + cross c.  in: x, its low parts, f, c, its low parts;  out: y, its low parts.
// x, c and y are f32 [t, n], with low parts f32 [t, 3 n]: a number is the sum of four, 96 bits long, so that the
// inverse, which divides by `scale` block after block, has digits to lose. Low parts may be absent (0), as may c.
// Factors are multiples of 1/4 below 64, or powers of two, which products are exact with.
struct CoupleAttributes {
  static constexpr size_t kX = 0, kLow = 1, kF = 2, kC = 3, kCLow = 4;
  double scale = 1, by = 1, cross = 0;
  // That x is of y with: x = (y - by f - cross c) / scale.
  CoupleAttributes inverse() const { return {1 / scale, -by / scale, -cross / scale}; }
  bool operator==(const CoupleAttributes&) const = default;
};
extern const Op kCouple;

// A stream of rows [t, n] with its low parts; `low` may be kNone.
struct Wide {
  ValueId high = kNone, low = kNone;
};
// What x is, coupled with f and with c (which may have no parts).
Wide couple(Graph& graph, const CoupleAttributes& attributes, const Wide& x, ValueId f, const Wide& c,
            const std::string& name);
// The same rows in another codec; they themselves where they are in it.
ValueId in_codec(Graph& graph, ValueId rows, const Codec& codec, const std::string& name);
// (x + weight y) / (1 + weight), of the high parts.
ValueId joined(Graph& graph, const Wide& x, const Wide& y, double weight, const Codec& codec, const std::string& name);

}  // namespace thimble
