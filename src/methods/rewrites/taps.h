// TAPS's two parts: the layers, and what presses their scores down while they train.
#pragma once

#include "methods/optimizer.h"
#include "methods/option.h"

namespace thimble {

inline constexpr Option kTapsOptions[] = {
    {"penalty", 1, 0, 1e6, "weight of the mean of all scores in the loss"},
    {"score_rate", 1, 1e-6, 1e6, "learning rate of the scores, as a multiple of the weights'"},
};
inline constexpr std::string_view kTapsScore = "taps_score";

extern const Wrapper kTapsPenalty;

}  // namespace thimble
