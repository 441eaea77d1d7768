#include "run/evaluator.h"

#include <cmath>

namespace thimble {

Result<std::unique_ptr<Evaluator>> Evaluator::prepare(Inference& inference, Task task, int64_t context, int64_t batch) {
  if (batch < 1 || batch > 4096)
    return fail(ErrorCode::invalid_argument, "--batch: expected 1 to 4096 windows at once, found {}", batch);
  std::unique_ptr<Evaluator> evaluator(new Evaluator(inference, context));
  evaluator->starts_.reserve(static_cast<size_t>(context * batch));
  evaluator->example_.ids.reserve(static_cast<size_t>(context));
  evaluator->example_.trained.reserve(static_cast<size_t>(context));
  CHECK_OK(inference.plan(task, context, batch));
  return evaluator;
}

Result<std::unique_ptr<Evaluator>> Evaluator::prepare(Inference& inference, int64_t context, int64_t batch,
                                                      OnScore on_score) {
  auto evaluator = TRY(prepare(inference, Task::losses, context, batch));
  evaluator->on_score_ = std::move(on_score);
  return evaluator;
}

Result<std::unique_ptr<Evaluator>> Evaluator::prepare_labels(Inference& inference, int64_t context, int64_t batch,
                                                             OnScores on_scores) {
  auto evaluator = TRY(prepare(inference, Task::logits, context, batch));
  evaluator->on_scores_ = std::move(on_scores);
  return evaluator;
}

Result<void> Evaluator::add(std::span<const int32_t> ids, std::span<const uint8_t> predicted) {
  const auto count = static_cast<int64_t>(ids.size());
  if (count > context_)
    return fail(ErrorCode::invalid_argument,
                "evaluating: a sequence of {} tokens does not fit a context of {}; give a larger --context", count,
                context_);
  CHECK_OK(check_rows(inference_.tokenizer(), ids, inference_.architecture().vocab));
  if (rows_ + count + inference_.lead().rows > inference_.plan().rows) CHECK_OK(flush());
  place(ids, predicted);
  return {};
}

Result<void> Evaluator::add_all(Dataset& data, int64_t count, const std::function<void(int64_t)>& progress) {
  for (int64_t i = 0; i < count; ++i) {
    CHECK_OK(data.read(i, example_));
    CHECK_OK(add(example_.ids, example_.trained));
    if (progress) progress(i + 1);
  }
  return flush();
}

void Evaluator::place(std::span<const int32_t> ids, std::span<const uint8_t> predicted) {
  int32_t* const to_ids = inference_.value<int32_t>("eval.ids") + rows_;
  int32_t* const positions = inference_.value<int32_t>("eval.positions") + rows_;
  int32_t* const starts = inference_.value<int32_t>("eval.starts") + rows_;
  int32_t* const targets = on_score_ ? inference_.value<int32_t>("eval.targets") + rows_ : nullptr;
  const Lead lead = inference_.lead();
  const size_t count = static_cast<size_t>(lead.rows) + ids.size();
  for (size_t i = 0; i < count; ++i) {
    const size_t next = lead.next_token(i);
    const bool predicts = lead.may_predict(i) && next < ids.size() && predicted[next];
    to_ids[i] = lead.is_text(i) ? ids[next - 1] : 0;
    positions[i] = static_cast<int32_t>(i);
    starts[i] = static_cast<int32_t>(rows_);
    if (targets) targets[i] = predicts ? ids[next] : -1;
  }
  starts_.push_back(rows_);
  rows_ += static_cast<int64_t>(count);
}

Result<void> Evaluator::flush() {
  if (starts_.empty()) return {};
  if (on_score_) *inference_.value<float>("eval.scale") = 1;
  CHECK_OK(inference_.run(0, rows_, -1));
  CHECK_OK(on_score_ ? score_losses() : score_labels());
  starts_.clear();
  rows_ = 0;
  return {};
}

Result<void> Evaluator::score_losses() {
  const float* const nll = inference_.value<const float>("eval.nll");
  const int32_t* const targets = inference_.value<const int32_t>("eval.targets");
  for (size_t i = 0; i < starts_.size(); ++i) {
    Score score;
    for (int64_t row = starts_[i]; row < end_of(i); ++row) {
      if (targets[row] < 0) continue;
      score.nll += double{nll[row]};
      ++score.tokens;
    }
    if (!std::isfinite(score.nll))
      return fail(ErrorCode::diverged, "evaluating: the loss is not finite ({}): the model's weights are damaged",
                  score.nll);
    on_score_(score);
  }
  return {};
}

Result<void> Evaluator::score_labels() {
  const auto outputs = static_cast<size_t>(inference_.architecture().outputs());
  const std::span<const float> all = TRY(inference_.logits(rows_));
  for (size_t i = 0; i < starts_.size(); ++i)
    on_scores_(all.subspan(static_cast<size_t>(end_of(i) - 1) * outputs, outputs));
  return {};
}

}  // namespace thimble
