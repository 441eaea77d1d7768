#include "run/save_gate.h"

#include <algorithm>

namespace thimble {

SaveGate::SaveGate(const std::vector<int64_t>& order) {
  positions_.reserve(order.size());
  for (const int64_t offset : order) positions_.emplace_back(offset, static_cast<int>(positions_.size()) + 1);
  std::ranges::sort(positions_);
}

int SaveGate::position(int64_t offset) const {
  const auto found = std::ranges::lower_bound(positions_, offset, {}, &std::pair<int64_t, int>::first);
  return found != positions_.end() && found->first == offset ? found->second : 0;
}

}  // namespace thimble
