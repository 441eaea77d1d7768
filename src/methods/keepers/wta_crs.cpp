// wta_crs: a linear layer keeps some rows of its input, and the gradient of its weight is a sum over those.
//
//   Paper   Liu et al. 2023, "Winner-Take-All Column Row Sampling", arXiv:2305.15265, section 3; zirui-ray-liu/WTACRS
//   Equation  dW = sum over rows of dy_i^T x_i, in place of which: the rows of the largest p_i count once, as many as
//             make the variance least; the others are drawn by their p_i and count so that the mean is dW
//             (ops/sample_rows.cpp)
//   Keeps   `rate` of the rows of x, and which they are; of what other gradients read nothing changes
//   Choice  p_i is in proportion to |x_i|; the paper multiplies it by |dy_i| of the last time that the sample was seen,
//           which takes a number a token of the data. Rows are drawn in granules of 512 tokens, so that no budget
//           changes a bit, and once for all layers that read x. Inputs narrower than 64 (of an adapter's second matrix)
//           are kept
#include "core/random.h"
#include "methods/keeper.h"
#include "ops/keep.h"
#include "ops/linear_parts.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kNarrowest = 64;

constexpr Option kOptions[] = {{"rate", 0.3, 0.01, 1, "part of the rows that is kept"}};

// Keeps the rows of x; returns the first of them, of the node that makes all.
ValueId sampled(Keeping& k, ValueId x) {
  return k.once("rows", x, [&] {
    const std::string name = k.name(x);
    const SampleAttributes attributes{.rate = k.options()["rate"], .stream = name_hash(name)};
    return k.forward(kSampleRows, attributes, {x}, name)[0];
  });
}

bool gradient(Keeping& k, const Node& node) {
  if (node.op != &kLinear) return false;
  Backward& backward = k.backward();
  linear_gradient(backward, node, [&](size_t i, ValueId dy) {
    const auto [transposed, scale] = node.as<LinearAttributes>().terms[i];
    const ValueId x = node.in[2 * i], w = node.in[2 * i + 1];
    if (!transposed || !k.keepable(x) || k.graph().value(x).type.shape[1] < kNarrowest) {
      const ValueId kept = backward.saved(x);
      return backward.accumulate(w, kLinearDw, ScaleAttributes{scale},
                                 transposed ? std::vector{dy, kept} : std::vector{kept, dy}, ".sum");
    }
    const ValueId rows = sampled(k, x);
    const std::vector<ValueId> made = k.graph().nodes()[static_cast<size_t>(k.graph().producer(rows))].out;
    backward.accumulate(w, kSampledDw, SampleAttributes{.rate = k.options()["rate"], .scale = scale},
                        {dy, k.saved(rows), made[1], made[2]}, ".sum");
  });
  return true;
}

}  // namespace

const Keeper kWtaCrs = {
    .name = "wta_crs",
    .summary = "linear layers keep some rows of their inputs, drawn so that gradients are right in the mean",
    .paper = "Liu et al. 2023 (arXiv:2305.15265)",
    .options = kOptions,
    .gradient = gradient};

}  // namespace thimble
