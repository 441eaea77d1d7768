#pragma once

#include <cstdint>

namespace thimble {

// The least multiple of `unit` that is not below `count`.
constexpr int64_t round_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

// The largest multiple of `unit` that is not above `count`; neither is negative.
constexpr int64_t round_down(int64_t count, int64_t unit) { return count / unit * unit; }

}  // namespace thimble
