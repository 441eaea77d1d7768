#include "run/label_scores.h"

#include <algorithm>
#include <cmath>

namespace thimble {

size_t LabelScores::best(std::span<const float> scores) {
  return static_cast<size_t>(std::ranges::max_element(scores) - scores.begin());
}

void LabelScores::add(std::span<const float> scores, float label) {
  ++texts_;
  if (kind_ == Labels::Kind::classes) {
    const auto id = static_cast<size_t>(label);
    const double most = *std::ranges::max_element(scores);
    double sum = 0;
    for (const float score : scores) sum += std::exp(double{score} - most);
    nll_ += most + std::log(sum) - double{scores[id]};
    right_ += best(scores) == id;
    return;
  }
  const double said = scores[0], off = said - double{label}, count = static_cast<double>(texts_);
  squares_ += off * off;
  const double from_said = said - mean_said_, from_true = label - mean_true_;
  mean_said_ += from_said / count, mean_true_ += from_true / count;
  said_ += from_said * (said - mean_said_), true_ += from_true * (label - mean_true_);
  both_ += from_said * (label - mean_true_);
}

LabelledTexts LabelScores::result() const {
  LabelledTexts out{.numbers = kind_ == Labels::Kind::number, .texts = texts_};
  if (texts_ == 0) return out;
  const auto count = static_cast<double>(texts_);
  out.nll = nll_ / count, out.accuracy = static_cast<double>(right_) / count;
  out.squared_error = squares_ / count;
  const double varies = std::sqrt(said_ * true_);
  out.pearson = varies > 0 ? both_ / varies : 0;
  return out;
}

}  // namespace thimble
