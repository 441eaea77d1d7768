// LoRA whose product begins with a part of the weight that is taken out of the frozen weight: y = x W^T + s x (B A -
// B0 A0)^T. A0 and B0 are computed of the weight whenever an adapter is used, so that W stays as it is stored.
#pragma once

#include "methods/rewrites/lora.h"

namespace thimble {

void residual_adapt(ModuleRewrite& m);
ValueId residual_weight(ModuleRewrite& m);
// What A and B begin with, and so A0 and B0.
std::vector<std::pair<std::string_view, ValueId>> residual_begin(ValueId a, ValueId b);
Result<void> residual_check(const OptionValues& options, int64_t in, int64_t out);
// PEFT's form of LoRA, with this text in init_lora_weights.
PeftForm residual_form(std::string_view init);

}  // namespace thimble
