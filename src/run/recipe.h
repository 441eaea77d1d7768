// Reading and checking of recipes.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "thimble/recipe.h"

namespace thimble {

// "300M", "1.5G", "300000000"; M = 10^6.
Result<int64_t> parse_bytes(const std::string& text);

// The recipe as a JSON object with the flags' names as keys, for the log.
std::string recipe_json(const Recipe& recipe);

// Ranges of all numbers, names of enumerations; what is missing. The message names the flag.
Result<void> check(const Recipe& recipe);

// Learning rate of step `step` (from 0) of `steps`, by the recipe's schedule, of which check() has made sure.
double learning_rate(const Recipe& recipe, double base, int64_t step, int64_t steps);

}  // namespace thimble
