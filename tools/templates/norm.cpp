// @NAME@: one line that says how values are brought to one size.
//
//   Paper     Authors and year, arXiv number, equation
//   Equation  y = g x + b
//   Trained   g and b
//
// As made from the template: gains and biases alone.
#include "models/norm.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

ValueId apply(const NormContext& c) {
  PointwiseBuilder b;
  const Expr x = b.tensor(), gain = b.row(), bias = b.row();
  b.output(gain * x + bias, c.codec);
  return c.graph.emit(kPointwise, b.attributes(), {c.x, c.gain(), c.bias()}, c.name);
}

}  // namespace

const NormKind @SYMBOL@ = {.name = "@NAME@",
                           .summary = "one line for help and docs",
                           .paper = "arXiv number",
                           .biased = true,
                           .elementwise = true,
                           .apply = apply};

}  // namespace thimble
