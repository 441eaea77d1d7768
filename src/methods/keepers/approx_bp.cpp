// approx_bp: the gradient of GELU and SiLU is that of a sum of three ReLUs near it, and waits in 2 bits.
//
//   Paper   Yang et al. 2024, "Approximate and Memory-Sharing Backpropagation", arXiv:2406.16282, section 4
//           (ReGELU2, ReSiLU2); constants from yyyyychen/LowMemoryBP, rounded to six places
//   Equation  h(x) = a1 relu(x - c1) + a2 relu(x - c2) + a3 relu(x - c3), a1 + a2 + a3 = 1, nearest to f
//             in the integral of (f - h)^2; df = h' = 0, a1, a1 + a2 or 1
//   Keeps   2 bits a number of the gate; f(gate) and up where it is gated (slopes.h)
//   Choice  few_bit approximates f', this f: the forward pass is exact in both
#include "methods/keepers/slopes.h"

namespace thimble {
namespace {

const StepSlope kReGelu2 = {
    .bits = 2, .edges = {-3.185881f, -0.001179f, 3.190833f}, .levels = {0, -0.049223f, 1.048741f, 1}};
const StepSlope kReSilu2 = {
    .bits = 2, .edges = {-6.305046f, -0.000868f, 6.325815f}, .levels = {0, -0.040604f, 1.040322f, 1}};

const StepSlope* slope_of(const OptionValues&, Activation f) {
  switch (f) {
    case Activation::silu:
      return &kReSilu2;
    case Activation::gelu:
    case Activation::gelu_tanh:
      return &kReGelu2;
    default:
      return nullptr;
  }
}

ValueId saved(Keeping& k, ValueId value) { return saved_product(k, value, slope_of); }
bool gradient(Keeping& k, const Node& node) { return slope_gradient(k, node, slope_of); }

}  // namespace

const Keeper kApproxBp = {.name = "approx_bp",
                          .summary = "GELU and SiLU have the gradient of three ReLUs, kept in 2 bits",
                          .paper = "Yang et al. 2024 (arXiv:2406.16282)",
                          .saved = saved,
                          .gradient = gradient};

}  // namespace thimble
