// Extents of a tensor, row-major, slowest first: x: [tokens, width].
#pragma once

#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace thimble {

class Shape {
 public:
  static constexpr int kMaxRank = 4;

  constexpr Shape() = default;
  constexpr Shape(std::initializer_list<int64_t> extents) {
    assert(extents.size() <= kMaxRank);
    for (int64_t extent : extents) extents_[rank_++] = extent;
  }

  constexpr int rank() const { return rank_; }
  constexpr int64_t operator[](int axis) const { return extents_[axis]; }
  constexpr void append(int64_t extent) {
    assert(rank_ < kMaxRank);
    extents_[rank_++] = extent;
  }

  // Product of all extents; 1 for a scalar.
  constexpr int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= extents_[i];
    return n;
  }
  // Last extent (1 for a scalar), and the product of the others.
  constexpr int64_t columns() const { return rank_ ? extents_[rank_ - 1] : 1; }
  constexpr int64_t rows() const { return columns() ? count() / columns() : 0; }

  // The same with another first extent.
  constexpr Shape with_first(int64_t extent) const {
    Shape out = *this;
    out.extents_[0] = extent;
    return out;
  }

  constexpr bool operator==(const Shape&) const = default;
  // The same elements in the same order: the same shape, or all of them in one row.
  constexpr bool same_elements(const Shape& whole) const {
    return *this == whole || (rank_ == 1 && count() == whole.count());
  }

  // As many elements in the same order, however they lie in rows.
  constexpr bool same_count(const Shape& whole) const { return rank_ > 0 && count() == whole.count(); }

  std::string text() const {
    std::string out = "[";
    for (int i = 0; i < rank_; ++i) out += (i ? ", " : "") + std::to_string(extents_[i]);
    return out + "]";
  }

 private:
  std::array<int64_t, kMaxRank> extents_{};
  int rank_ = 0;
};

}  // namespace thimble
