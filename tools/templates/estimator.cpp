// @NAME@: one line that says where the gradient comes from.
//
//   Paper      Authors and year, arXiv number, algorithm
//   Estimate   g = (L(p + eps z) - L(p - eps z)) / (2 eps) * z,   z ~ N(0, I), the mean over `directions`
//   State      none: z is drawn again from (seed, step, name, element) wherever it is read
//   Choice     where this differs from the paper
//
// As made from the template: two probes along a normal direction.
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"epsilon", 1e-3, 1e-8, 10, "how far parameters are moved"},
    whole_number("directions", 1, 1, kMostDirections, "drawn a step; their gradients are averaged"),
};

std::vector<Probe> probes(const OptionValues&) { return {{1, 0.5}, {-1, -0.5}}; }

Expr direction(PointwiseBuilder& builder, uint64_t stream) { return builder.normal_noise(stream); }

}  // namespace

const Estimator @SYMBOL@ = {.name = "@NAME@",
                            .summary = "one line for help and docs",
                            .paper = "arXiv number",
                            .options = kOptions,
                            .probes = probes,
                            .direction = direction,
                            .rate = 1e-4,
                            .optimizer = "sgd"};

}  // namespace thimble
