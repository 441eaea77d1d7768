#include "text/mismatched.h"

#include <algorithm>
#include <utility>

namespace thimble {
namespace {

// Where the reply begins.
std::ptrdiff_t reply_of(const Example& example) {
  return std::ranges::find(example.trained, 1) - example.trained.begin();
}

}  // namespace

Mismatched::Mismatched(Dataset& data, int64_t context, int64_t distance)
    : data_(&data), context_(context), distance_(distance) {
  for (Example* example : {&pair_, &other_}) {
    example->ids.reserve(static_cast<size_t>(context));
    example->trained.reserve(static_cast<size_t>(context));
  }
}

Result<Mismatched> Mismatched::open(Dataset& data, int64_t context) {
  const int64_t distance = data.report().unpaired > 0 ? 2 : 1;
  if (data.size() > distance) return Mismatched(data, context, distance);
  return fail(ErrorCode::invalid_argument,
              "pairing prompts with replies to others: the data set has {} judged replies, expected more than {}",
              data.size(), distance);
}

Result<const Example*> Mismatched::read(int64_t example) {
  const int64_t other = (example + data_->size() - distance_) % data_->size();
  CHECK_OK(data_->read(example, pair_));
  CHECK_OK(data_->read(other, other_));
  const std::ptrdiff_t prompt = reply_of(pair_), reply = reply_of(other_);
  const std::ptrdiff_t room = context_ - prompt, count = std::ssize(other_.ids) - reply;
  const auto join = [&](auto& to, const auto& from) {
    to.resize(static_cast<size_t>(prompt));
    to.insert(to.end(), from.begin() + reply, from.begin() + reply + std::min(room, count));
  };
  join(pair_.ids, other_.ids);
  join(pair_.trained, other_.trained);
  pair_.label = 1;  // likelihoods are summed as they are
  return &std::as_const(pair_);
}

}  // namespace thimble
