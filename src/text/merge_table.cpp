#include "text/merge_table.h"

namespace thimble {

void MergeTable::index() {
  merges_.shrink_to_fit();
  slots_.assign(merges_.size() * 3 / 2 + 2, -1);
  for (size_t rank = 0; rank < merges_.size(); ++rank) {
    const auto [left, right, merged] = merges_[rank];
    size_t at = slot(left, right);
    bool known = false;
    while (slots_[at] >= 0 && !known) {
      const Merge& other = merges_[static_cast<size_t>(slots_[at])];
      known = other.left == left && other.right == right;
      at = at + 1 == slots_.size() ? 0 : at + 1;
    }
    if (!known) slots_[at] = static_cast<int32_t>(rank);
  }
}

}  // namespace thimble
