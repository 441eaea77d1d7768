// How bytes are shown.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/result.h"
#include "thimble/ledger.h"

namespace thimble {

// 12.3 MB; MB = 10^6 bytes.
std::string megabytes(int64_t bytes);

// A bar of `width` columns of which `part` is filled, to the eighth of a column.
std::string bar_text(double part, int width);

// What the process occupies beside the arena differs from start to start, and from plan to plan.
constexpr int64_t kRuntimeVaries = 700'000;

// Refuses a budget. `least`: of the plan that needs least, least_bytes in all; `advice`: what would need less, "Lower
// --context (512)".
Failure does_not_fit(const Ledger& least, int64_t least_bytes, std::string_view advice);

// Up to the next whole megabyte, as budgets are given.
constexpr int64_t whole_megabytes(int64_t bytes) { return (bytes + 999'999) / 1'000'000 * 1'000'000; }

}  // namespace thimble
