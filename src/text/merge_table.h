// The merges of a byte-pair vocabulary: pairs of ids in the order of their rank, with a hash from pair to rank.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace thimble {

struct Merge {
  int32_t left, right, merged;
};

class MergeTable {
 public:
  void reserve(size_t merges) { merges_.reserve(merges); }
  void add(const Merge& merge) { merges_.push_back(merge); }  // its rank is its place
  // Makes find() work; of a pair given twice the first counts.
  void index();

  size_t size() const { return merges_.size(); }
  const Merge& operator[](size_t rank) const { return merges_[rank]; }
  // The rank of a pair, or -1.
  int32_t find(int32_t left, int32_t right) const {
    if (slots_.empty()) return -1;
    for (size_t at = slot(left, right); slots_[at] >= 0; at = at + 1 == slots_.size() ? 0 : at + 1) {
      const Merge& merge = merges_[static_cast<size_t>(slots_[at])];
      if (merge.left == left && merge.right == right) return slots_[at];
    }
    return -1;
  }

 private:
  size_t slot(int32_t left, int32_t right) const {
    const uint64_t pair = (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
    const uint64_t hash = (pair ^ (pair >> 29)) * 0x9e3779b97f4a7c15ull;
    const uint64_t mixed = (hash ^ (hash >> 32)) * 0xbf58476d1ce4e5b9ull;
    return static_cast<size_t>((static_cast<unsigned __int128>(mixed) * slots_.size()) >> 64);
  }

  std::vector<Merge> merges_;
  std::vector<int32_t> slots_;  // ranks, -1 where free; at most 2/3 full
};

}  // namespace thimble
