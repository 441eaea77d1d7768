// RMSNorm: rows divided by the root of their mean square.
//
//   Paper     Zhang and Sennrich 2019, arXiv:1910.07467, equation 4
//   Equation  y = g x / sqrt(mean x^2 + epsilon)
#include "models/norm.h"
#include "ops/table.h"

namespace thimble {

const NormKind kRms = {.name = "rms",
                       .summary = "rows divided by the root of their mean square",
                       .paper = "arXiv:1910.07467",
                       .apply = [](const NormContext& c) {
                         const NormAttributes attributes{c.norm.epsilon, static_cast<float>(c.norm.offset), c.group};
                         return c.graph.emit(kRmsNorm, attributes, {c.x, c.gain()}, c.name);
                       }};

}  // namespace thimble
