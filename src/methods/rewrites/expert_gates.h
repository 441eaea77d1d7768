// Which experts of a technique a token goes to: what mixtures of LoRAs share.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

struct ExpertGates {
  int64_t experts = 1, chosen = 1;
  double balance = 0;  // weight of the loss that keeps experts evenly used, in training
};
// f32 [rows, experts]: the softmax of the `chosen` largest of x router^T, zeros elsewhere. Adds the loss of balance.
ValueId expert_gates(ModuleRewrite& m, ValueId x, ValueId router, const ExpertGates& how, std::string_view name);

}  // namespace thimble
