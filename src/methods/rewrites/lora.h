// What the kin of LoRA share: values, options and PEFT's form of A and B.
#pragma once

#include "methods/rewrite.h"

namespace thimble {

std::span<const PeftField> lora_fields();
std::span<const PeftNote> lora_harmless();
std::span<const PeftNote> lora_refused();
std::span<const PeftValue> lora_values();

// rank, alpha, dropout, rslora, bias: the options that all of them have.
inline constexpr Option kLoraOptions[] = {
    whole_number("rank", 8, 1, 65536, "r, columns of B and rows of A"),
    {"alpha", 16, -1e6, 1e6, "the product is scaled by alpha / rank"},
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    zero_or_one("rslora", 0, "1: the product is scaled by alpha / sqrt(rank)"),
    zero_or_one("bias", 0, "1: B has a bias"),
};

double lora_unit(const ModuleRewrite& m);   // alpha / rank, or as rslora says
double lora_scale(const ModuleRewrite& m);  // the same times the adapter's scale
ValueId lora_a(ModuleRewrite& m);           // [rank, in]
ValueId lora_b(ModuleRewrite& m);           // [out, rank]
// dropout(x) A^T
ValueId lora_h(ModuleRewrite& m);

void lora_adapt(ModuleRewrite& m);
ValueId lora_weight(ModuleRewrite& m);
ValueId lora_bias(ModuleRewrite& m);
ValueId lora_embed(ModuleRewrite& m, ValueId ids, ValueId rows);

}  // namespace thimble
