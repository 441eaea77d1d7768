#include "run/divergence.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "models/damage.h"
#include "run/trainer.h"
#include "text/json_output.h"

namespace thimble {
namespace {

constexpr int kMostInARow = 8;        // steps that are passed over before the run is given up
constexpr size_t kExamplesTold = 64;  // of the batch

std::string wrong(const RunningMedian& median, const char* what, double value) {
  if (!median.is_left_by(value)) return "";
  if (!std::isfinite(value)) return fmt::format("the {}, {}, is not finite", what, value);
  return fmt::format("the {}, {:.4g}, is {:.0f} times its running median", what, value, value / median.median());
}

}  // namespace

void RunningMedian::add(double value) {
  last_[static_cast<size_t>(count_++ % kWindow)] = value;
  highest_ = std::max(highest_, median());
}

double RunningMedian::median() const {
  if (count_ < kLeast) return 0;
  std::array<double, kWindow> sorted = last_;
  const auto end = sorted.begin() + std::min<int64_t>(count_, kWindow);
  const auto middle = sorted.begin() + (end - sorted.begin()) / 2;
  std::nth_element(sorted.begin(), middle, end);
  return *middle;
}

bool RunningMedian::is_left_by(double value) const {
  if (!std::isfinite(value)) return true;
  const double usual = median();
  return usual > 0 && value > kTimes * usual && value > highest_;
}

std::string DivergenceWatch::look(double loss, double gradient_norm) const {
  const std::string first = wrong(loss_, "loss", loss);
  return first.empty() ? wrong(norm_, "gradient's norm", gradient_norm) : first;
}

void DivergenceWatch::add(double loss, double gradient_norm) {
  loss_.add(loss);
  norm_.add(gradient_norm);
}

std::string DivergenceWatch::text() const {
  std::string out;
  for (const RunningMedian* one : {&loss_, &norm_}) {
    out += fmt::format("{} {:.17g}", one->count_, one->highest_);
    for (const double value : one->last_) out += fmt::format(" {:.17g}", value);
    out += one == &loss_ ? " " : "";
  }
  return out;
}

bool DivergenceWatch::restore(std::string_view text) {
  std::vector<double> numbers;
  for (const char *at = text.data(), *const end = at + text.size(); at < end && numbers.size() <= 100;) {
    double value = 0;
    const auto [next, error] = std::from_chars(at, end, value);
    if (error != std::errc{}) return false;
    numbers.push_back(value);
    at = next + (next < end && *next == ' ');
  }
  constexpr size_t kEach = 2 + RunningMedian::kWindow;
  const auto valid = [](double value) { return std::isfinite(value) && value >= 0 && value <= 1e300; };
  if (numbers.size() != 2 * kEach || !std::ranges::all_of(numbers, valid) || numbers[0] > 1e15) return false;
  const double* from = numbers.data();
  for (RunningMedian* one : {&loss_, &norm_}) {
    one->count_ = static_cast<int64_t>(from[0]), one->highest_ = from[1];
    std::copy_n(from + 2, RunningMedian::kWindow, one->last_.begin());
    from += kEach;
  }
  return true;
}

// Of the step that was just computed and not taken: --on-divergence says what becomes of it.
Result<void> Trainer::pass_over(const std::string& what, const Packer::State& from) {
  const std::string text = fmt::format("step {}: {}", done_ + 1, what);
  std::string examples;
  const std::vector<int64_t> batch = packer_->examples(from, packer_->state(), kExamplesTold);
  for (const int64_t example : batch) examples += fmt::format("{}{}", examples.empty() ? "" : ",", example);
  const auto told = [&](const std::string& done) {
    events_.event("divergence",
                  fmt::format("\"step\":{},\"what\":{},\"epoch\":{},\"examples\":[{}],\"then\":{}", done_ + 1,
                              json_string(what), from.epoch, examples, json_string(done)),
                  fmt::format("{}; its batch: examples {} of epoch {}; {}", text, examples, from.epoch, done));
  };
  if (recipe_.on_divergence == "stop" || done_ == 0) {
    told("stopped");
    return diverged(text);
  }
  ++skipped_;
  if (++passed_over_ >= kMostInARow) {
    told("stopped");
    return diverged(fmt::format("{}, and so were the {} steps before it", text, kMostInARow - 1));
  }
  // Of a selector that draws: states are those of its layers, and begin anew with the first update of a period.
  const int64_t period = draw_period(spec_);
  const bool begins = period > 0 && done_ % period == 0, ends = period > 0 && (done_ + 1) % period == 0;
  CHECK_OK(settle_save());
  if (recipe_.on_divergence == "rollback") {
    if (saved_ < 0)
      return fail(ErrorCode::diverged,
                  "{}; there is no checkpoint to go back to: give --save-every, or --on-divergence skip", text);
    if (period > 0 && !begins && !ends && (saved_ - 1) / period != done_ / period)
      return fail(ErrorCode::diverged,
                  "{}; the checkpoint, of step {}, has the states of layers that --select {} drew before: give "
                  "--on-divergence skip, or a smaller --save-every",
                  text, saved_, spec_.selector->name);
    checkpoint_ = TRY(last_good_checkpoint(recipe_.out, [&](const std::string& note) { events_.note(note); })).file;
    const int in_a_row = passed_over_;
    CHECK_OK(load_checkpoint());
    passed_over_ = in_a_row;
    told(fmt::format("back to the weights of step {}, on to the next batch", saved_));
  } else {
    told("passed over");
  }
  if (begins) CHECK_OK(begin_slots());
  ++done_;
  return {};
}

// Before the first update the model itself is the cause, if it is damaged.
Failure Trainer::diverged(const std::string& what) const {
  if (done_ == 0 && source_) {
    const auto damage = find_damage(*source_);
    if (damage && *damage)
      return fail(ErrorCode::diverged, "{}: the weights of {} are damaged: {}", what, source_->path(), **damage);
  }
  return fail(ErrorCode::diverged, "{}; lower --lr ({}), or give --precision f32{}{}", what, base_rate_,
              recipe_.on_divergence == "stop" ? ", or --on-divergence skip" : "",
              saved_ >= 0 ? fmt::format(". The checkpoint of step {} is untouched", saved_) : "");
}

}  // namespace thimble
