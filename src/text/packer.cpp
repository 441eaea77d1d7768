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

std::vector<int64_t> Packer::examples(State from, const State& to, size_t most) {
  std::vector<int64_t> out;
  for (; from != to && out.size() < most; ++from.next) {
    if (from.next >= dataset_.size()) from = {from.epoch + 1, 0};
    if (from == to) break;
    order(from.epoch);
    out.push_back(shuffle_ ? order_[static_cast<size_t>(from.next)] : from.next);
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

int64_t Packer::place(Rows& rows, int64_t row, size_t first, size_t end) const {
  const size_t count = static_cast<size_t>(lead_.rows) + end - first;
  int64_t predicted = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = static_cast<size_t>(row) + i, next = first + lead_.next_token(i);
    const bool predicts = lead_.may_predict(i) && next < end && example_.trained[next] != 0;
    rows.ids[at] = lead_.is_text(i) ? example_.ids[next - 1] : 0;
    rows.targets[at] = predicts ? example_.ids[next] : -1;
    rows.positions[at] = static_cast<int32_t>(i);
    rows.starts[at] = static_cast<int32_t>(row);
    predicted += predicts ? 1 : 0;
  }
  rows.predicted += predicted;
  return predicted;
}

void Packer::place_reply(Rows& rows, int64_t pair, int64_t row, size_t first, size_t end, float sign) const {
  const int64_t predicted = place(rows, row, first, end);
  const auto begin = static_cast<size_t>(row);
  for (size_t at = begin; at < begin + static_cast<size_t>(lead_.rows) + end - first; ++at) {
    rows.pair_starts[at] = static_cast<int32_t>(pair);
    if (rows.targets[at] < 0) continue;
    rows.sign[at] = sign;
    rows.share[at] = 1 / static_cast<float>(predicted);
  }
}

void Packer::place(Rows& rows, int64_t row) const {
  const size_t length = example_.ids.size();
  if (example_.second == 0) {
    place(rows, row, 0, length);
    return;
  }
  rows.pairs.push_back({index(), row});
  place_reply(rows, row, row, 0, example_.second, 1);
  place_reply(rows, row, row + lead_.rows + static_cast<int64_t>(example_.second), example_.second, length, -1);
}

void Packer::clear(Rows& rows) const {
  constexpr size_t kShortPair = 32;  // tokens: a window of shorter ones makes the list of pairs grow
  const auto all = static_cast<size_t>(batch_ * context_);
  rows.ids.assign(all, 0);
  rows.targets.assign(all, -1);
  rows.positions.assign(all, 0);
  rows.starts.resize(all);
  std::iota(rows.starts.begin(), rows.starts.end(), 0);  // an unused row sees itself only
  rows.predicted = rows.windows = 0;
  rows.pairs.clear();
  if (!dataset_.pairs()) return;
  rows.pairs.reserve(all / kShortPair);
  rows.pair_starts = rows.starts;
  rows.sign.assign(all, 0);
  rows.share.assign(all, 0);
}

Result<void> Packer::next(Rows& rows) {
  if (dataset_.size() == 0) return fail(ErrorCode::invalid_argument, "packing examples: the data set is empty");
  clear(rows);
  for (int64_t window = 0; window < batch_; ++window) {
    rows.windows += epoch_is_over_ ? 0 : 1;
    for (int64_t used = 0; used < context_ && !epoch_is_over_;) {
      CHECK_OK(load());
      const int64_t length = rows_of(static_cast<int64_t>(example_.ids.size()));
      if (used + length > context_) break;
      place(rows, window * context_ + used);
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
