// Rows of a micro-batch, and documents in them.
#include <algorithm>
#include <numeric>

#include "text/dataset.h"

namespace thimble {

void Rows::clear(int64_t count, LossTerm term) {
  constexpr size_t kShortTerm = 32;  // tokens: a window of shorter ones makes the list of terms grow
  const auto all = static_cast<size_t>(count);
  ids.assign(all, 0);
  targets.assign(all, -1);
  positions.assign(all, 0);
  starts.resize(all);
  std::iota(starts.begin(), starts.end(), 0);  // an unused row sees itself only
  predicted = windows = 0;
  terms.clear();
  if (term == LossTerm::token) return;
  terms.reserve(all / kShortTerm);
  if (term == LossTerm::text) return;
  pair_starts = starts;
  sign.assign(all, 0);
  share.assign(all, 0);
}

int64_t Rows::place(const Example& example, int64_t row, size_t first, size_t end, Lead lead) {
  const size_t count = static_cast<size_t>(lead.rows) + end - first;
  int64_t learnt = 0;
  for (size_t i = 0; i < count; ++i) {
    const size_t at = static_cast<size_t>(row) + i, next = first + lead.next_token(i);
    const bool predicts = lead.may_predict(i) && next < end && example.trained[next] != 0;
    ids[at] = lead.is_text(i) ? example.ids[next - 1] : 0;
    targets[at] = predicts ? example.ids[next] : -1;
    positions[at] = static_cast<int32_t>(i);
    starts[at] = static_cast<int32_t>(row);
    learnt += predicts ? 1 : 0;
  }
  predicted += learnt;
  return learnt;
}

void Rows::place_reply(const Example& example, int64_t pair, int64_t row, size_t first, size_t end, float side,
                       Lead lead) {
  const int64_t learnt = place(example, row, first, end, lead);
  const auto begin = static_cast<size_t>(row);
  for (size_t at = begin; at < begin + static_cast<size_t>(lead.rows) + end - first; ++at) {
    pair_starts[at] = static_cast<int32_t>(pair);
    if (targets[at] < 0) continue;
    sign[at] = side;
    share[at] = 1 / static_cast<float>(learnt);
  }
}

int64_t Rows::place(const Example& example, int64_t index, int64_t row, LossTerm term, Lead lead) {
  const size_t length = example.ids.size();
  const int64_t rows = rows_of(static_cast<int64_t>(length), term, lead), last = row + rows - 1;
  if (term == LossTerm::text) {
    terms.push_back({index, row, last, example.label});
    place(example, row, 0, length, lead);
  } else if (term == LossTerm::token) {
    place(example, row, 0, length, lead);
  } else if (term == LossTerm::reply) {
    terms.push_back({index, row, last, example.label});
    place_reply(example, row, row, 0, length, example.label, lead);
  } else {
    terms.push_back({index, row, last});
    place_reply(example, row, row, 0, example.second, 1, lead);
    place_reply(example, row, row + lead.rows + static_cast<int64_t>(example.second), example.second, length, -1, lead);
  }
  return rows;
}

}  // namespace thimble
