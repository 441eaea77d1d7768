// Whether the loss and the gradient of a step are numbers to go on with.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

// The median of the last kWindow values, and the highest that it has been.
class RunningMedian {
 public:
  static constexpr int kWindow = 33, kLeast = 9;  // values before it says anything
  void add(double value);
  // Not finite; or kTimes the median, and more than the median has ever been: a loss of almost nothing may become an
  // ordinary one again.
  static constexpr double kTimes = 1000;
  bool is_left_by(double value) const;
  double median() const;  // 0 before there are kLeast values

 private:
  friend class DivergenceWatch;
  std::array<double, kWindow> last_{};
  int64_t count_ = 0;
  double highest_ = 0;
};

class DivergenceWatch {
 public:
  // "" where all is well; else what is wrong: "the loss, nan, is not finite".
  std::string look(double loss, double gradient_norm) const;
  void add(double loss, double gradient_norm);

  // As a checkpoint keeps it, exactly: a resumed run judges as one that was never stopped.
  std::string text() const;
  bool restore(std::string_view text);

 private:
  RunningMedian loss_, norm_;
};

}  // namespace thimble
