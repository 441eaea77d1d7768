#include "run/all_logits.h"

namespace thimble {

Result<std::unique_ptr<AllLogits>> AllLogits::prepare(Inference& inference, int64_t context) {
  std::unique_ptr<AllLogits> logits(new AllLogits(inference, context));
  CHECK_OK(inference.plan(Task::logits, context, 1));
  return logits;
}

Result<std::span<const float>> AllLogits::run(std::span<const int32_t> ids) {
  const int64_t lead = inference_.lead().rows;
  const auto count = static_cast<int64_t>(ids.size());
  if (count > context_)
    return fail(ErrorCode::invalid_argument,
                "logits: a sequence of {} tokens does not fit a context of {}; give a larger --context", count,
                context_);
  for (int64_t i = 0; i < lead + count; ++i) {
    inference_.value<int32_t>("eval.ids")[i] = i < lead ? 0 : ids[static_cast<size_t>(i - lead)];
    inference_.value<int32_t>("eval.positions")[i] = static_cast<int32_t>(i);
    inference_.value<int32_t>("eval.starts")[i] = 0;
  }
  if (count == 0) return std::span<const float>();
  CHECK_OK(inference_.run(0, lead + count, -1));
  return TRY(inference_.logits(lead + count)).subspan(static_cast<size_t>(lead * inference_.architecture().outputs()));
}

}  // namespace thimble
