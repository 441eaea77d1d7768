// The flags of training, and the recipe that they make.
#pragma once

#include <string>

#include "run/recipe.h"

namespace thimble {

class FlagSet;

class RecipeOptions {
 public:
  void add(FlagSet& command, bool pretrained);
  // Reads sizes, fills defaults that depend on others, says what is missing.
  Result<Recipe> finish(bool pretrained, bool plan_only);

 private:
  Result<void> check_void() const;
  Recipe recipe_;
  std::string memory_, lr_;
  std::vector<std::string> data_, eval_data_;
  FlagSet* command_ = nullptr;
};

}  // namespace thimble
