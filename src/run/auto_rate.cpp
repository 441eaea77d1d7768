#include "run/auto_rate.h"

#include <cmath>

#include "models/tensor_names.h"

namespace thimble {
namespace {

// Where the law was measured (section 3.1).
constexpr double kLeastParameters = 5.9e7, kMostParameters = 1.1e9, kLeastTokens = 2e9, kMostTokens = 1e11;

}  // namespace

AutoRate step_law(const Architecture& architecture, int64_t tokens, int64_t batch_tokens) {
  double parameters = 0;
  for (const TensorSpec& tensor : tensor_specs(architecture))
    if (tensor.name.starts_with("model.layers.") || tensor.name.starts_with("model.norm"))
      parameters += static_cast<double>(tensor.shape.count());
  const auto count = static_cast<double>(tokens);
  const double rate = 1.79 * std::pow(parameters, -0.713) * std::pow(count, 0.307);
  const double batch = 0.58 * std::pow(count, 0.571);
  const bool measured =
      parameters >= kLeastParameters && parameters <= kMostParameters && count >= kLeastTokens && count <= kMostTokens;
  return {rate,
          fmt::format("--lr auto: {:.3g} = 1.79 N^-0.713 D^0.307 with N = {:.3g} parameters without embeddings and "
                      "D = {:.3g} tokens (Step Law, arXiv:2503.04715{}); its batch is {:.3g} tokens a step, this run's "
                      "{}",
                      rate, parameters, count,
                      measured ? "" : ", which was measured from 59M to 1.1G parameters and 2G to 100G tokens", batch,
                      batch_tokens)};
}

Result<void> check_auto_rate(const Optimizer& optimizer, bool from_scratch) {
  if (optimizer.name == kAdamw.name && from_scratch) return {};
  return fail(
      ErrorCode::unsupported,
      "--lr auto: the law (Step Law, arXiv:2503.04715) is of training from scratch with adamw; leave the flag out, "
      "which takes a rate that suits method and optimizer, or measure one with --lr-range 1e-6:1");
}

}  // namespace thimble
