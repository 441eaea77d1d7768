// AdaLoRA's two parts: the layers, and what trains them.
#pragma once

#include "methods/optimizer.h"
#include "methods/option.h"
#include "methods/rewrite.h"

namespace thimble {

inline constexpr Option kAdaloraOptions[] = {
    whole_number("init_rank", 12, 1, 65536, "ranks that every layer begins with"),
    whole_number("rank", 8, 1, 65536, "ranks of a layer that are left at the end, on average"),
    whole_number("left", 0, 0, 65536, "ranks that an adapter's file has of a layer; 0: all"),
    {"alpha", 8, -1e6, 1e6, "the product is scaled by alpha / init_rank"},
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    whole_number("tinit", 0, 0, 1000000000, "steps before ranks are allotted"),
    whole_number("tfinal", 0, 0, 1000000000, "steps at the end with the ranks that are left"),
    whole_number("every", 1, 1, 1000000000, "steps after which ranks are allotted anew"),
    {"beta1", 0.85, 0, 0.9999, "of the mean of sensitivities"},
    {"beta2", 0.85, 0, 0.9999, "of the mean of their changes"},
    {"orthogonal", 0.5, 0, 1e3, "weight of the loss that keeps A and B orthogonal"},
    whole_number("total", 0, 0, 1000000000, "steps that the schedule is made for; 0: those of the run"),
};

// What its kin share: options left, init_rank, alpha and dropout.
void adalora_adapt(ModuleRewrite& m);
ValueId adalora_weight(ModuleRewrite& m);
ValueId adalora_scale(ModuleRewrite& m, const Initial& initial);  // E, which begins so where nobody added it before
std::span<const PeftField> adalora_fields();
std::span<const PeftNote> adalora_harmless();
std::span<const PeftNote> adalora_refused();

extern const Wrapper kAdaloraBudget;
// Refuses fewer ranks to begin with than are to be left, and a schedule in which no step allots ranks.
Result<void> adalora_check_run(const OptionValues& options, int64_t steps);

}  // namespace thimble
