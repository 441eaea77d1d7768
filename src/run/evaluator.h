// Teacher-forced losses of many sequences, or what a model for labels says of them, packed into one pass as training
// packs them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "run/inference.h"
#include "text/dataset.h"
#include "thimble/events.h"

namespace thimble {

class Evaluator {
 public:
  // Gets every sequence's score, in the order of add().
  using OnScore = std::function<void(const Score&)>;

  // Plans up to `batch` windows of `context` rows at once.
  static Result<std::unique_ptr<Evaluator>> prepare(Inference& inference, int64_t context, int64_t batch,
                                                    OnScore on_score);
  // The same of a model for labels: gets the scores of every text, of its last token. No tokens are predicted.
  using OnScores = std::function<void(std::span<const float> scores)>;
  static Result<std::unique_ptr<Evaluator>> prepare_labels(Inference& inference, int64_t context, int64_t batch,
                                                           OnScores on_scores);
  Result<void> load() { return inference_.load(); }

  // A sequence of at most `context` tokens; ids[i] is predicted where predicted[i] is 1, the first one
  // where virtual tokens are before it.
  Result<void> add(std::span<const int32_t> ids, std::span<const uint8_t> predicted);
  // The first `count` examples of a data set, and flush(). `progress` gets how many were added.
  Result<void> add_all(Dataset& data, int64_t count, const std::function<void(int64_t)>& progress = {});
  // Runs what is waiting. A loss that is not finite is an error.
  Result<void> flush();

 private:
  Evaluator(Inference& inference, int64_t context) : inference_(inference), context_(context) {}
  static Result<std::unique_ptr<Evaluator>> prepare(Inference& inference, Task task, int64_t context, int64_t batch);
  Result<void> score_losses();
  Result<void> score_labels();
  int64_t end_of(size_t i) const { return i + 1 < starts_.size() ? starts_[i + 1] : rows_; }  // of a sequence's rows
  void place(std::span<const int32_t> ids, std::span<const uint8_t> predicted);

  Inference& inference_;
  int64_t context_;
  OnScore on_score_;             // of losses
  OnScores on_scores_;           // else
  int64_t rows_ = 0;             // filled
  std::vector<int64_t> starts_;  // first rows of the waiting sequences
  Example example_;              // of add_all
};

}  // namespace thimble
