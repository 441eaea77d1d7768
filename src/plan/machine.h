// What this machine does in a second, measured by a short probe: the base of predicted times, and of the choice of how
// operands are multiplied.
#pragma once

#include "graph/op.h"

namespace thimble {

// Of transfers that follow one another; reading and writing beside each other share the device.
struct DiskSpeed {
  double read = 1e9, write = 1e9;  // bytes a second
  double seconds(int64_t bytes, bool written) const { return static_cast<double>(bytes) / (written ? write : read); }
  double seconds_both(int64_t bytes) const { return seconds(bytes, false) + seconds(bytes, true); }
};

// Of matrix products by what they are for, FLOP/s; 0: the CPU does not multiply so.
using ProductSpeeds = std::array<double, kProductUses>;

struct Machine {
  ProductSpeeds f32 = {1e11, 1e11, 1e11, 1e11, 1e11, 1e11, 1e11, 1e11};
  ProductSpeeds bf16 = {};
  double bandwidth = 1e10;  // bytes a second, read
  double moved = 2e9;       // bytes a second of operations on activations that are no products
  double updated = 2e9;     // bytes a second of elementwise operations on parameters and states
  double decode = 1e9;      // elements of a block codec a second
  double encode = 1e9;      // the same, written
  double draw = 5e7;        // normal numbers a second
  double calls = 1e6;       // of operations on next to nothing a second
  DiskSpeed disk;

  const ProductSpeeds& products(Multiply multiply) const { return multiply == Multiply::bf16 ? bf16 : f32; }
  // Of a product with weights, the kind that most of the work is.
  double product_flops(Multiply multiply) const { return products(multiply)[size_t(ProductUse::forward)]; }
};

// Runs the operations of training on operands of the shapes of a small model. Takes half a second and 14 MB, given
// back.
Machine probe_machine(Threads& threads);

// bf16 only where it is at least 1.2 times as fast.
inline Multiply faster_multiply(const Machine& machine) {
  return machine.product_flops(Multiply::bf16) >= 1.2 * machine.product_flops(Multiply::f32) ? Multiply::bf16
                                                                                             : Multiply::f32;
}

// Seconds that a node should take.
double predicted_seconds(const Machine& machine, Multiply multiply, const Op& op, const Cost& cost);

}  // namespace thimble
