// LoRA whose product begins with a part of the weight that is taken out of the frozen weight: y = x W^T + s x (B A -
// B0 A0)^T. A0 and B0 are computed of the weight whenever an adapter is used, so that W stays as it is stored.
#pragma once

#include "methods/rewrites/lora.h"

namespace thimble {

// What A and B begin with, and so A0 and B0.
std::vector<std::pair<std::string_view, ValueId>> residual_begin(ValueId a, ValueId b);

// A technique that differs from others of this kind in how it begins. PEFT's form is LoRA's, with its name in
// init_lora_weights.
Rewrite residual(std::string_view name, std::string_view summary, std::string_view paper,
                 decltype(Rewrite::begin) begin);

}  // namespace thimble
