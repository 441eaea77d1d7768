// What an earlier run left in the --out of a new one.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "run/recipe.h"

namespace thimble {

// Files of its results, as its checkpoint tells what it was: in adapter/ or model/, the same in best/, and the report.
// None of another hand, and none of a folder that `recipe` reads from.
std::vector<std::string> earlier_results(const Recipe& recipe);

// Removes them, and the folders that are empty then.
void remove_results(std::span<const std::string> files);

// Refuses a run whose results would take the place of the model, adapter or teacher that it reads.
Result<void> check_inputs_stay(const Recipe& recipe, bool trains_weights);

}  // namespace thimble
