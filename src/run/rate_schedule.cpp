#include "run/rate_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "core/nearest.h"

namespace thimble {
namespace {

// From 1 at the peak to `floor`, by a part of the way that is left in [0, 1].
double fall(double floor, double left) { return floor + (1 - floor) * left; }
double half_cosine(double done) { return 0.5 * (1 + std::cos(std::numbers::pi * done)); }

double done_of(const RatePlace& p) { return std::clamp(p.at / std::max(1.0, p.at + p.left), 0.0, 1.0); }

double constant(const RatePlace&) { return 1; }
double linear(const RatePlace& p) { return fall(p.floor, 1 - done_of(p)); }
double cosine(const RatePlace& p) { return fall(p.floor, half_cosine(done_of(p))); }

// Warmup-stable-decay (Hu et al. 2024, arXiv:2404.06395), with transformers' default of a cosine at the end.
double stable(const RatePlace& p) {
  if (p.left > p.decay) return 1;
  return fall(p.floor, half_cosine(1 - p.left / std::max(1.0, p.decay)));
}

// transformers' get_inverse_sqrt_schedule: the time scale is the warm-up, or 10,000 steps without one.
double inverse_sqrt(const RatePlace& p) {
  const double scale = p.warmup > 0 ? p.warmup : 10'000;
  return std::sqrt(scale / (p.at + scale));
}

// By the same factor each step, from the floor to the rate: the learning-rate range test (Smith 2015,
// arXiv:1506.01186).
double rising(const RatePlace& p) {
  const double last = std::max(1.0, p.at + p.left - 1);
  return std::pow(std::max(p.floor, 1e-12), 1 - p.at / last);
}

constexpr RateSchedule kSchedules[] = {
    {"constant", "the same rate", constant, false, false},
    {"linear", "in a line down to the floor", linear, true, false},
    {"cosine", "along half a cosine down to the floor", cosine, true, false},
    {"inverse_sqrt", "by the root of the steps since the beginning", inverse_sqrt, false, false},
    {"warmup_stable_decay", "the same rate, then along half a cosine down to the floor in the last steps", stable, true,
     true},
    {"rising", "by the same factor each step from the floor (--min-lr) to the rate", rising, true, false, true},
};

double steps_of(double setting, int64_t steps) {
  return setting >= 1 ? setting : std::ceil(setting * static_cast<double>(steps));
}

}  // namespace

std::span<const RateSchedule> rate_schedules() { return kSchedules; }

Result<const RateSchedule*> rate_schedule_named(std::string_view name) {
  std::vector<std::string_view> names;
  for (const RateSchedule& schedule : kSchedules) {
    if (schedule.name == name) return &schedule;
    names.push_back(schedule.name);
  }
  return fail(ErrorCode::invalid_argument, "--schedule: there is no '{}'; the nearest are {}", name,
              nearest_names(name, names));
}

double rate_factor(const RateSchedule& schedule, const RateSettings& settings, int64_t step, int64_t steps) {
  const double warmup = steps_of(settings.warmup, steps), at = static_cast<double>(step);
  if (at < warmup) return (at + 1) / warmup;
  return schedule.factor({.at = at - warmup,
                          .left = std::max(0.0, static_cast<double>(steps) - at),
                          .warmup = warmup,
                          .decay = steps_of(settings.decay, steps),
                          .floor = settings.floor});
}

}  // namespace thimble
