// What this machine does in a second, measured by a short probe: the base of predicted times, and of the choice of how
// operands are multiplied.
#pragma once

#include "graph/op.h"

namespace thimble {

struct Machine {
  double f32_flops = 1e11;  // matrix products, operands in f32
  double bf16_flops = 0;    // 0: the CPU does not multiply bf16
  double bandwidth = 1e10;  // bytes a second, read
  double decode = 1e9;      // elements of a block codec a second
  double disk = 1e9;        // bytes a second, reading and writing mixed
  double product_flops(Multiply multiply) const { return multiply == Multiply::bf16 ? bf16_flops : f32_flops; }
};

// Takes about a tenth of a second and 6 MB, given back.
Machine probe_machine(Threads& threads);

// bf16 only where it is at least 1.2 times as fast.
inline Multiply faster_multiply(const Machine& machine) {
  return machine.bf16_flops >= 1.2 * machine.f32_flops ? Multiply::bf16 : Multiply::f32;
}

// Seconds that a node should take.
double predicted_seconds(const Machine& machine, Multiply multiply, const Cost& cost);

}  // namespace thimble
