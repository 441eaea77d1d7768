// LaMDA's parts: the layers, their ranks, and what freezes the second projection while it trains.
#pragma once

#include "methods/optimizer.h"
#include "methods/option.h"
#include "methods/rewrite.h"

namespace thimble {

inline constexpr Option kLamdaOptions[] = {
    whole_number("rank", 32, 1, 65536, "r, rows and columns of the matrix that trains"),
    {"alpha", 16, 1e-6, 1e6, "the product is scaled by alpha / rank"},
    whole_number("frozen_by", 0, 0, 1000000000,
                 "step by which all columns of B have been frozen, one after another; 0: three tenths of the run"),
    zero_or_one("adaptive", 0, "1: layers get ranks by their weight's singular values (LaMDA++), on average the rank"),
};
inline constexpr std::string_view kLamdaB = "lamda_B";

extern const Wrapper kLamdaFreezing;
extern const Settling kLamdaRanks;

}  // namespace thimble
