// LoRA+: LoRA, with a larger learning rate for B than for A.
//
//   Paper   Hayou et al. 2024, arXiv:2402.12354, section 4
//   Update  A by lr, B by b_rate * lr
//   Choice  the rest is LoRA; an adapter does not tell by which of them it was made
#include "methods/rewrites/lora.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {kLoraOptions[0], kLoraOptions[1],
                               kLoraOptions[2], kLoraOptions[3],
                               kLoraOptions[4], {"b_rate", 16, 1, 1e4, "the learning rate of B, as a multiple of A's"}};

}  // namespace

const Rewrite kLoraPlus = {.name = "lora_plus",
                           .summary = "LoRA with a larger learning rate for B",
                           .paper = "arXiv:2402.12354",
                           .rate = 1,
                           .options = kOptions,
                           .adapt = lora_adapt,
                           .weight = lora_weight,
                           .bias = lora_bias,
                           .embed = lora_embed,
                           .scales = true,
                           .form = {.type = "LORA",
                                    .fields = lora_fields(),
                                    .harmless = lora_harmless(),
                                    .refused = lora_refused(),
                                    .values = lora_values(),
                                    .init_field = "init_lora_weights",
                                    .alias = true}};

}  // namespace thimble
