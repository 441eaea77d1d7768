#include "plan/machine.h"

namespace thimble {

double predicted_seconds(const Machine& machine, Multiply multiply, const Op& op, const Cost& cost) {
  double seconds =
      1 / machine.calls + cost.decoded / machine.decode + cost.encoded / machine.encode + cost.drawn / machine.draw;
  for (size_t use = 0; use < kProductUses; ++use)
    if (cost.flops[use] > 0) seconds += cost.flops[use] / machine.products(multiply)[use];
  // What products move was moved when they were measured.
  if (!cost.multiplies()) seconds += cost.bytes / (op.elementwise ? machine.updated : machine.moved);
  return seconds;
}

}  // namespace thimble
