// Packing of examples into windows. A window is filled with whole examples in order; one that does not fit the rest of
// the window starts the next.
#include <algorithm>
#include <numeric>

#include "core/random.h"
#include "text/dataset.h"

namespace thimble {

Packer::Packer(Dataset& dataset, int64_t batch, int64_t context, uint64_t seed, bool shuffle, Lead lead)
    : dataset_(dataset), batch_(batch), context_(context), lead_(lead), seed_(seed), shuffle_(shuffle) {
  if (shuffle_) order_.resize(static_cast<size_t>(dataset_.size()));
  example_.ids.reserve(static_cast<size_t>(context_));
  example_.trained.reserve(static_cast<size_t>(context_));
}

// The epoch's order depends on the seed and the epoch alone, so that a run can be resumed anywhere.
void Packer::order(int64_t epoch) {
  if (order_epoch_ == epoch) return;
  order_epoch_ = epoch;
  if (!shuffle_) return;
  std::iota(order_.begin(), order_.end(), 0u);
  const Random random(seed_, "order of examples", static_cast<uint64_t>(epoch));
  for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random.below(i, i)]);
}

Result<void> Packer::restore(const State& state) {
  constexpr int64_t kMostEpochs = int64_t{1} << 40;
  if (state.epoch < 0 || state.epoch > kMostEpochs || state.next < 0 || state.next >= dataset_.size())
    return fail(ErrorCode::invalid_argument, "going on at example {} of epoch {}: the data set has {} examples",
                state.next, state.epoch, dataset_.size());
  state_ = state, order_epoch_ = -1, loaded_ = false, epoch_is_over_ = false;
  return {};
}

std::optional<int64_t> Packer::example(State& from, const State& to) {
  if (from == to) return std::nullopt;
  if (from.next >= dataset_.size()) from = {from.epoch + 1, 0};
  if (from == to) return std::nullopt;
  order(from.epoch);
  const int64_t place = from.next++;
  return shuffle_ ? order_[static_cast<size_t>(place)] : place;
}

std::vector<int64_t> Packer::examples(State from, const State& to, size_t most) {
  std::vector<int64_t> out;
  while (out.size() < most) {
    const std::optional<int64_t> one = example(from, to);
    if (!one) break;
    out.push_back(*one);
  }
  return out;
}

Result<void> Packer::load() {
  if (loaded_ && loaded_state_ == state_) return {};
  order(state_.epoch);
  loaded_ = false;
  CHECK_OK(dataset_.read(index(), example_));
  if (const int64_t rows = rows_of(static_cast<int64_t>(example_.ids.size())); rows > context_) {
    return fail(ErrorCode::invalid_argument,
                "packing an example of {} rows into windows of {}: open the data set with the same context", rows,
                context_);
  }
  loaded_ = true;
  loaded_state_ = state_;
  return {};
}

int64_t Packer::index() const { return shuffle_ ? order_[static_cast<size_t>(state_.next)] : state_.next; }

void Packer::clear(Rows& rows) const { rows.clear(batch_ * context_, dataset_.term()); }

Result<void> Packer::next(Rows& rows) {
  if (dataset_.size() == 0) return fail(ErrorCode::invalid_argument, "packing examples: the data set is empty");
  clear(rows);
  for (int64_t window = 0; window < batch_; ++window) {
    rows.windows += epoch_is_over_ ? 0 : 1;
    for (int64_t used = 0; used < context_ && !epoch_is_over_;) {
      CHECK_OK(load());
      const int64_t length = rows_of(static_cast<int64_t>(example_.ids.size()));
      if (used + length > context_) break;
      rows.place(example_, index(), window * context_ + used, dataset_.term(), lead_);
      used += dataset_.windows() ? context_ : length;
      if (++state_.next < dataset_.size()) continue;
      state_ = {state_.epoch + 1, 0};
      epoch_is_over_ = true;
    }
  }
  return {};
}

int64_t Packer::windows(int64_t epoch) {
  if (dataset_.windows()) return dataset_.size();
  order(epoch);
  int64_t count = 0, left = 0;
  for (int64_t i = 0; i < dataset_.size(); ++i) {
    const int64_t length = rows_of(dataset_.tokens(shuffle_ ? order_[static_cast<size_t>(i)] : i));
    if (length > left) ++count, left = context_;
    left -= length;
  }
  return count;
}

}  // namespace thimble
