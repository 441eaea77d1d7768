// LeMo's predictors: how informative a token is to a block, guessed from the row that the block reads.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "methods/stream.h"

namespace thimble {

// What a predictor reads of the rows x of the residual stream, f32 [rows, features].
ValueId lemo_features(StreamRewrite& s, ValueId x, int64_t block);
// Measures what predictor `block` is fitted to, while the technique is probed; x: what the block has read.
Result<void> lemo_probe(StreamRewrite& s, ValueId x, int64_t block);
// Which products of (z, 1, y) it measures, z being so many features: by places, the first no greater than the second.
std::vector<std::pair<int64_t, int64_t>> lemo_moments(int64_t features);
// Predictors are an option: of each block that leaves rows out, in order, the factors of its features and a constant,
// as whole numbers in this unit.
inline constexpr std::string_view kLemoPredictor = "predictor";
inline constexpr double kLemoUnit = 1.0 / 65536;
extern const Settling kLemoSettling;

}  // namespace thimble
