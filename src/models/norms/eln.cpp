// ELN, elementwise layer normalisation: what layer normalisation makes of one number of a row when the others stay as
// they are.
//
//   Paper     Stollenwerk 2025, arXiv:2503.21708, equation 15
//   Equation  y = g sqrt(n - 1) x / sqrt(x^2 + beta) + b, of rows of n numbers
//   Trained   beta, one number a norm; g and b. Of a row with mean 0 and variance s^2 beta is n s^2: it begins at n
//   Choice    |beta| is taken, so that no step can make the root imaginary
#include <cmath>

#include "models/norm.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr NormScalar kScalars[] = {{"beta", [](int64_t width) { return static_cast<float>(width); }}};

ValueId apply(const NormContext& c) {
  PointwiseBuilder b;
  const Expr x = b.tensor(), beta = b.scalar(), gain = b.row(), bias = b.row();
  const Expr root = sqrt(x * x + abs(beta));
  b.output(gain * (std::sqrt(static_cast<double>(c.columns() - 1)) * x / max(root, 1e-30)) + bias, c.codec);
  return c.graph.emit(kPointwise, b.attributes(), {c.x, c.scalar("beta"), c.gain(), c.bias()}, c.name);
}

}  // namespace

const NormKind kEln = {.name = "eln",
                       .summary = "every number as layer normalisation would see it among others that rest",
                       .paper = "arXiv:2503.21708",
                       .biased = true,
                       .elementwise = true,
                       .scalars = kScalars,
                       .apply = apply};

}  // namespace thimble
