// How well a model says the labels of texts.
#pragma once

#include <span>

#include "core/labels.h"
#include "thimble/events.h"

namespace thimble {

class LabelScores {
 public:
  explicit LabelScores(Labels::Kind kind) : kind_(kind) {}

  // What the head says of a text, and Example::label.
  void add(std::span<const float> scores, float label);
  LabelledTexts result() const;

  // The class with the largest score, of equals the first; of a number 0.
  static size_t best(std::span<const float> scores);

 private:
  Labels::Kind kind_;
  int64_t texts_ = 0, right_ = 0;
  double nll_ = 0, squares_ = 0;
  // Of said and true numbers: means, and sums of squares and products about them (Welford 1962).
  double mean_said_ = 0, mean_true_ = 0, said_ = 0, true_ = 0, both_ = 0;
};

}  // namespace thimble
