// Loops in double over one row, compiled for each instruction set. Sums are taken in 8 fixed lanes and then over the
// lanes, so every instruction set gives the same bits.
#pragma once

#include <cstdint>

namespace thimble {

double dot(const double* a, const double* b, int64_t n) noexcept;
void add_scaled(double* to, const double* from, double by, int64_t n) noexcept;  // to += by * from
void add_scaled(double* to, const float* from, double by, int64_t n) noexcept;
void rotate(double* x, double* y, double c, double s, int64_t n) noexcept;  // x, y = c x - s y, s x + c y

}  // namespace thimble
