// How the learning rate goes over a run: `--schedule`, named as in transformers' SchedulerType where that has it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/result.h"

namespace thimble {

// Where a run is after its warm-up. All counts are of steps, at most 2^53.
struct RatePlace {
  double at;      // steps after the warm-up
  double left;    // of all steps after the warm-up, those from this one on
  double warmup;  // steps of it
  double decay;   // steps in which a rate falls at the end
  double floor;   // part of the peak rate to which it falls
};

struct RateSchedule {
  std::string_view name;
  std::string_view summary;
  double (*factor)(const RatePlace& place);  // of the peak rate
  bool falls_to_floor;                       // --min-lr means something
  bool decays_at_end;                        // --decay means something
  bool rises = false;                        // from the floor to the peak rate, which the others begin with
};

std::span<const RateSchedule> rate_schedules();
// The error names the nearest.
Result<const RateSchedule*> rate_schedule_named(std::string_view name);

// Parts of the peak rate by step (from 0): a linear warm-up, then the schedule.
//   warmup, decay   steps when >= 1, a part of all steps when < 1
struct RateSettings {
  double warmup = 0, decay = 0, floor = 0;
};
double rate_factor(const RateSchedule& schedule, const RateSettings& settings, int64_t step, int64_t steps);

}  // namespace thimble
