// Merging of neighbouring symbols, best pair first, leftmost of equals first: a heap of candidates over a linked list,
// O(n log n) whatever the text.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace thimble {

struct Symbol {
  uint32_t start = 0;   // first byte in the text
  uint32_t length = 0;  // bytes; 0 once it is part of its left neighbour
  int32_t id = -1;      // -1: not a token (only SentencePiece has such)
  int32_t previous = -1, next = -1;
};

// What a pair becomes, and how early: lower `priority` first.
struct PairMerge {
  uint32_t priority = 0;
  int32_t merged = -1;  // -1: the pair does not merge
};

class Merger {
 public:
  void clear() { symbols_.clear(); }
  void add(uint32_t start, uint32_t length, int32_t id) {
    const auto at = static_cast<int32_t>(symbols_.size());
    if (at > 0) symbols_.back().next = at;
    symbols_.push_back({start, length, id, at - 1, -1});
  }
  const std::vector<Symbol>& symbols() const { return symbols_; }  // follow `next` from the first

  // look_up(left, right) -> PairMerge.
  template <class LookUp>
  void run(LookUp&& look_up) {
    heap_.clear();
    for (size_t i = 0; i + 1 < symbols_.size(); ++i) propose(static_cast<int32_t>(i), look_up, false);
    std::make_heap(heap_.begin(), heap_.end());
    while (!heap_.empty()) {
      const Candidate best = heap_.front();
      std::pop_heap(heap_.begin(), heap_.end());
      heap_.pop_back();
      if (absorb(best)) {
        const int32_t left = best.left;
        if (symbols_[static_cast<size_t>(left)].previous >= 0) {
          propose(symbols_[static_cast<size_t>(left)].previous, look_up, true);
        }
        propose(left, look_up, true);
      }
    }
  }

 private:
  struct Candidate {
    uint32_t priority;
    int32_t left;
    uint32_t length;  // of both symbols when it was proposed; another length now means it is stale
    int32_t merged;
    bool operator<(const Candidate& other) const {  // std::*_heap keep the greatest in front
      return priority != other.priority ? priority > other.priority : left > other.left;
    }
  };

  template <class LookUp>
  void propose(int32_t left, LookUp&& look_up, bool push) {
    const Symbol& a = symbols_[static_cast<size_t>(left)];
    if (a.next < 0) return;
    const Symbol& b = symbols_[static_cast<size_t>(a.next)];
    const PairMerge merge = look_up(a, b);
    if (merge.merged < 0) return;
    heap_.push_back({merge.priority, left, a.length + b.length, merge.merged});
    if (push) std::push_heap(heap_.begin(), heap_.end());
  }

  bool absorb(const Candidate& candidate) {
    Symbol& left = symbols_[static_cast<size_t>(candidate.left)];
    if (left.length == 0 || left.next < 0) return false;
    Symbol& right = symbols_[static_cast<size_t>(left.next)];
    if (left.length + right.length != candidate.length) return false;
    left.length = candidate.length;
    left.id = candidate.merged;
    left.next = right.next;
    right.length = 0;
    if (left.next >= 0) symbols_[static_cast<size_t>(left.next)].previous = candidate.left;
    return true;
  }

  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

}  // namespace thimble
