// Time a step against the budget: `thimble plan --sweep`.
#pragma once

#include <string>
#include <vector>

#include "plan/training.h"

namespace thimble {

struct SweepPoint {
  int64_t budget_bytes = 0, planned_bytes = 0;
  double seconds = 0;                         // a step, predicted
  int64_t read_bytes = 0, written_bytes = 0;  // of the scratch file, a step
  std::vector<std::string> techniques;        // in use at this budget
  std::vector<std::string> fresh;             // of these, not in use at any larger budget
};

// Plans at about `count` budgets, from plenty down to the smallest that does; most memory first.
Result<std::vector<SweepPoint>> sweep_budgets(TrainingSpec spec, const Machine& machine, int count = 24);

std::string sweep_table(const std::vector<SweepPoint>& points);
std::string sweep_json(const std::vector<SweepPoint>& points);
// A picture of its own: seconds a step over the budget (logarithmic), marked where a technique comes into use.
std::string sweep_svg(const std::vector<SweepPoint>& points, const std::string& title);

}  // namespace thimble
