// Forward gradient: the exact derivative along a random direction from one forward-mode pass.
//
//   Paper      Baydin et al. 2022, arXiv:2202.08587, Algorithm 1; for language models Zhang et al. 2024,
//              arXiv:2402.11592, section 3
//   Estimate   g = (grad L(p) . z) z,  z ~ N(0, I), the mean over `directions`; its mean is the gradient
//   State      none: z is drawn again from (seed, step, name, element) wherever it is read
//   Choice     the derivative is carried beside every value by the operations themselves (ops/tangents.h), for all
//              micro-batches of the step; z is that of mezo, whose estimate goes to this one as its epsilon goes to 0.
//              Rate: as of mezo, since both have the same mean and variance; Zhang et al. search the same rates for
//              both
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("directions", 1, 1, kMostDirections, "drawn a step; their gradients are averaged"),
};

Expr direction(PointwiseBuilder& builder, uint64_t stream) { return builder.normal_noise(stream); }

}  // namespace

const Estimator kForwardGradient = {.name = "forward_gradient",
                                    .summary = "the exact derivative along a random direction, in a forward pass",
                                    .paper = "Baydin et al. 2022",
                                    .options = kOptions,
                                    .tangents = true,
                                    .direction = direction,
                                    .rate = 1e-4,
                                    .optimizer = "sgd"};

}  // namespace thimble
