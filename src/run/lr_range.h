// A learning-rate range test: losses of steps whose rate rises by the same factor each, and what they suggest.
//
//   Paper   Smith 2015, arXiv:1506.01186, section 3.3
//   Reads   losses smoothed by a mean that decays with 0.9 a step, its bias corrected. `steepest` is where they fall
//           fastest by the logarithm of the rate, `lowest` a tenth of the rate where they are lowest: both as fastai's
//           lr_find has them
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "thimble/recipe.h"

namespace thimble {

struct RatePoint {
  double rate, loss;
};

struct RateRange {
  std::vector<RatePoint> points;
  std::vector<double> smooth;              // losses
  std::optional<double> steepest, lowest;  // none where no loss fell
};
RateRange read_rate_range(std::vector<RatePoint> points);
// Whether the last loss is so far above the lowest smoothed one that the rest would tell nothing.
bool range_is_over(const std::vector<RatePoint>& points);

// "1e-6:1" as rates of the recipe; refuses what else would set them.
Result<void> set_rate_range(const std::string& text, Recipe& recipe);

// One page with the curve.
Result<void> write_rate_range(const std::string& path, const RateRange& range, const std::string& title);
std::string rate_range_text(const RateRange& range);
std::string rate_range_json(const RateRange& range);  // the inside of an object

}  // namespace thimble
