// LoRA-FA: LoRA with a frozen A, so that the input of a layer need not be kept for its gradient, only h = x A^T.
//
//   Paper   Zhang et al. 2023, arXiv:2308.03303, eq. 3
//   Trains  B alone; A stays as it began and is saved with it
//   Choice  the rest is LoRA; an adapter does not tell by which of them it was made
#include "methods/rewrites/lora.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {kLoraOptions[0], kLoraOptions[1], kLoraOptions[2],
                               kLoraOptions[3], kLoraOptions[4], {"train_a", 0, 0, 0, "A is frozen"}};

}  // namespace

const Rewrite kLoraFa = {.name = "lora_fa",
                         .summary = "LoRA with a frozen A",
                         .paper = "arXiv:2308.03303",
                         .rate = 5,
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
