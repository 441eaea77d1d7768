// few_bit: the derivative of an activation function waits as the number of its step, in 2 to 4 bits.
//
//   Paper   Novikov et al. 2022, "Few-Bit Backward", arXiv:2202.00441, section 3
//   Keeps   `bits` bits a number of the gate; f(gate) and up where it is gated (slopes.h)
//   Steps   q = argmin of the integral of (f'(x) - q(x))^2 over all functions of 2^bits steps, by dynamic programming
//           (tools/few_bit_tables.py); of relu one bit, which is exact
//   Choice  the weight of the integral is the same everywhere on [-100, 100], as in the code of the paper; the square
//           of relu has no such function and stays as it is
#include <cmath>

#include "methods/keepers/few_bit_tables.h"
#include "methods/keepers/slopes.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("bits", 4, 2, 4, "of each derivative")};

const StepSlope kReluSlope = {.bits = 1, .edges = {0}, .levels = {0, 1}};

const StepSlope* slope_of(const OptionValues& options, Activation f) {
  const auto row = static_cast<size_t>(std::lround(options["bits"])) - 2;
  switch (f) {
    case Activation::silu:
      return &kSiluSlopes[row];
    case Activation::gelu:
      return &kGeluSlopes[row];
    case Activation::gelu_tanh:
      return &kGeluTanhSlopes[row];
    case Activation::relu:
      return &kReluSlope;
    case Activation::relu_squared:
      return nullptr;
  }
  return nullptr;
}

ValueId saved(Keeping& k, ValueId value) { return saved_product(k, value, slope_of); }
bool gradient(Keeping& k, const Node& node) { return slope_gradient(k, node, slope_of); }

}  // namespace

const Keeper kFewBit = {.name = "few_bit",
                        .summary = "derivatives of activation functions are kept in 2 to 4 bits",
                        .paper = "Novikov et al. 2022 (arXiv:2202.00441)",
                        .options = kOptions,
                        .saved = saved,
                        .gradient = gradient};

}  // namespace thimble
