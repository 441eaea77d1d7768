// Forward gradient: the exact derivative along a random direction from one forward-mode pass.
//
//   Paper      Baydin et al. 2022, arXiv:2202.08587, Algorithm 1; for language models Zhang et al. 2024,
//              arXiv:2402.11592, section 3
//   Estimate   g = (grad L(p) . z) z,  z ~ N(0, I), the mean over `directions`; its mean is the gradient
//   State      none: z is drawn again from (seed, step, name, element) wherever it is read
//   Options    layers: the gradients of so many of the last layers, and of what is behind them, are derived in the same
//              passes, the others are estimated (the hybrid ZO-FO of Zhang et al., section 5)
//   Choice     the derivative is carried beside every value by the operations themselves (ops/tangents.h), for all
//              micro-batches of the step; z is that of mezo, whose estimate goes to this one as its epsilon goes to 0.
//              Rate: as of mezo, since both have the same mean and variance; Zhang et al. search the same rates for
//              both
#include "methods/estimator.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("directions", 1, 1, kMostDirections, "drawn a step; their gradients are averaged"),
    whole_number("layers", 0, 0, 1'000'000, "of the model's last, whose gradients are derived by backpropagation"),
};

Expr direction(PointwiseBuilder& builder, uint64_t stream) { return builder.normal_noise(stream); }

int64_t derived_layers(const OptionValues& options) { return static_cast<int64_t>(options["layers"]); }

}  // namespace

const Estimator kForwardGradient = {.name = "forward_gradient",
                                    .summary = "the exact derivative along a random direction, in a forward pass",
                                    .paper = "Baydin et al. 2022",
                                    .options = kOptions,
                                    .tangents = true,
                                    .direction = direction,
                                    .derived_layers = derived_layers,
                                    .rate = 1e-4,
                                    .optimizer = "sgd"};

}  // namespace thimble
