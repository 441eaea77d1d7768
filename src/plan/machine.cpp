#include "plan/machine.h"

namespace thimble {

double predicted_seconds(const Machine& machine, Multiply multiply, const Op& op, const Cost& cost, int64_t window) {
  double seconds = 1 / machine.calls + cost.decoded / machine.decode + cost.encoded / machine.encode;
  const double attended =
      cost.attending > window ? static_cast<double>(window) / static_cast<double>(cost.attending) : 1;
  for (size_t use = 0; use < kProductUses; ++use) {
    const bool attends = use == size_t(ProductUse::attention) || use == size_t(ProductUse::attention_gradient);
    if (cost.flops[use] > 0) seconds += (attends ? attended : 1) * cost.flops[use] / machine.products(multiply)[use];
  }
  // What products move was moved when they were measured.
  if (!cost.multiplies()) seconds += cost.bytes / (op.elementwise ? machine.updated : machine.moved);
  return seconds;
}

}  // namespace thimble
