// DyT, dynamic tanh: every number through the same curve, in place of statistics of its row.
//
//   Paper     Zhu et al. 2025, arXiv:2503.10622, algorithm 1
//   Equation  y = g tanh(alpha x) + b
//   Trained   alpha, one number a norm, which begins at 0.5; g and b
#include "models/norm.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr NormScalar kScalars[] = {{"alpha", [](int64_t) { return 0.5f; }}};

ValueId apply(const NormContext& c) {
  PointwiseBuilder b;
  const Expr x = b.tensor(), alpha = b.scalar(), gain = b.row(), bias = b.row();
  b.output(gain * tanh(alpha * x) + bias, c.codec);
  return c.graph.emit(kPointwise, b.attributes(), {c.x, c.scalar("alpha"), c.gain(), c.bias()}, c.name);
}

}  // namespace

const NormKind kDyt = {.name = "dyt",
                       .summary = "every number through tanh, of a width that is learnt",
                       .paper = "arXiv:2503.10622",
                       .biased = true,
                       .elementwise = true,
                       .scalars = kScalars,
                       .apply = apply};

}  // namespace thimble
