// Layer normalisation: rows with mean 0 and variance 1.
//
//   Paper     Ba et al. 2016, arXiv:1607.06450, equation 3
//   Equation  y = g (x - mean x) / sqrt(var x + epsilon) + b
#include "models/norm.h"
#include "ops/table.h"

namespace thimble {

const NormKind kLayer = {.name = "layer",
                         .summary = "rows with mean 0 and variance 1",
                         .paper = "arXiv:1607.06450",
                         .biased = true,
                         .apply = [](const NormContext& c) {
                           const NormAttributes attributes{c.norm.epsilon, static_cast<float>(c.norm.offset), c.group};
                           return c.graph.emit(kLayerNorm, attributes, {c.x, c.gain(), c.bias()}, c.name);
                         }};

}  // namespace thimble
