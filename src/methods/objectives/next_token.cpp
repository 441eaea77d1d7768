// Next-token prediction: the negative log likelihood of the tokens that are learnt, with the usual regularisers of it.
//
//   Paper    Szegedy et al. 2016, arXiv:1512.00567, section 7 (label smoothing); Chowdhery et al. 2022 (PaLM),
//            arXiv:2204.02311, section 5 (z-loss)
//   Loss     (1 - e) nll + e mean_v -log p_v + z lse^2, with e = label_smoothing and z = z_loss; the mean is over the
//            whole vocabulary, the target too (as PyTorch's cross_entropy and transformers' label_smoothing_factor)
//   Choice   evaluations count the likelihood alone
#include "methods/objective.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"label_smoothing", 0, 0, 0.999, "part of the target's probability that is shared by all tokens"},
    {"z_loss", 0, 0, 1, "factor of the squared logarithm of the softmax's sum (PaLM: 1e-4)"}};

TokenTerms terms(const OptionValues& options) {
  const double smoothing = options["label_smoothing"];
  return {.target = static_cast<float>(1 - smoothing),
          .uniform = static_cast<float>(smoothing),
          .square = static_cast<float>(options["z_loss"])};
}

}  // namespace

const Objective kNextToken = {.name = "next_token",
                              .summary = "the negative log likelihood of the tokens that are learnt",
                              .paper = "",
                              .options = kOptions,
                              .terms = terms};

}  // namespace thimble
