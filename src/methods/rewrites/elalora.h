// ElaLoRA's two parts: the layers, and what moves ranks between them. Options are AdaLoRA's, and how many move.
#pragma once

#include "methods/optimizer.h"
#include "methods/option.h"

namespace thimble {

inline constexpr Option kElaloraOptions[] = {
    whole_number("init_rank", 16, 1, 65536, "ranks that a layer has room for"),
    whole_number("rank", 8, 1, 65536, "ranks that every layer begins with"),
    whole_number("left", 0, 0, 65536, "ranks that an adapter's file has of a layer; 0: all"),
    {"alpha", 32, 1e-6, 1e6, "the product is scaled by alpha / init_rank"},
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    whole_number("tinit", 0, 0, 1000000000, "steps before ranks move"),
    whole_number("tfinal", 0, 0, 1000000000, "steps at the end in which none moves"),
    whole_number("every", 10, 1, 1000000000, "steps after which ranks move again"),
    {"beta1", 0.85, 0, 0.9999, "of the mean of sensitivities"},
    {"beta2", 0.85, 0, 0.9999, "of the mean of their changes"},
    {"orthogonal", 0.1, 0, 1e3, "weight of the loss that keeps A and B orthogonal"},
    whole_number("total", 0, 0, 1000000000, "steps that the schedule is made for; 0: those of the run"),
    whole_number("moves", 4, 1, 65536, "ranks of all layers that move at a time"),
    whole_number("of_layer", 2, 1, 64, "of them, at most from one layer and to one layer"),
    zero_or_one("falling", 1, "1: fewer and fewer move, none at the end"),
};

inline constexpr float kFreshRank = 1e-13f;  // E of a rank that begins

extern const Wrapper kElaloraMoves;

}  // namespace thimble
