// Two independent standard normal numbers of two random words, by the Box-Muller transform. Sums, products and bits
// without a branch: a loop over it becomes vectors, and gives the same bits at every instruction set.
//
//   Source  Box and Muller 1958; the polynomials of fdlibm's e_log.c, k_sin.c and k_cos.c (Sun Microsystems, 1993)
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace thimble {

struct NormalPair {
  float first, second;
};

// Of a whole number below 2^52.
[[gnu::always_inline]] inline double exact_double(uint64_t n) noexcept {
  return std::bit_cast<double>(n | 0x4330000000000000u) - 0x1p52;
}

// The natural logarithm of n / 2^32, 1 <= n <= 2^32.
[[gnu::always_inline]] inline double log_of_part(uint64_t n) noexcept {
  constexpr uint64_t kRootOfHalf = 0x3fe6a09e667f3bcd;
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  const uint64_t bits = std::bit_cast<uint64_t>(exact_double(n));
  const uint64_t exponent = (bits - kRootOfHalf) >> 52;
  const double f = std::bit_cast<double>(bits - (exponent << 52)) - 1;  // of n / 2^exponent, from 0.7 to 1.4
  const double k = exact_double(exponent) - 32;
  const double s = f / (2 + f), w = s * s, half = 0.5 * f * f;
  const double r = w * (6.666666666666735130e-01 +
                        w * (3.999999999940941908e-01 +
                             w * (2.857142874366239149e-01 +
                                  w * (2.222219843214978396e-01 +
                                       w * (1.818357216161805012e-01 +
                                            w * (1.531383769920937332e-01 + w * 1.479819860511658591e-01))))));
  return k * kLn2High - ((half - (s * (half + r) + k * kLn2Low)) - f);
}

[[gnu::always_inline]] inline NormalPair normal_pair(uint32_t a, uint32_t b) noexcept {
  const double radius = std::sqrt(-2 * log_of_part(uint64_t{a} + 1));
  const uint32_t quarter = (b + 0x20000000u) >> 30;  // of a turn, the nearest
  const double t = static_cast<int32_t>(b - (quarter << 30)) * (2 * std::numbers::pi * 0x1p-32), z = t * t;
  const double sine = t + t * z *
                              (-1.66666666666666324348e-01 +
                               z * (8.33333333332248946124e-03 +
                                    z * (-1.98412698298579493134e-04 +
                                         z * (2.75573137070700676789e-06 +
                                              z * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10)))));
  const double cosine = 1 - 0.5 * z +
                        z * z *
                            (4.16666666666666019037e-02 +
                             z * (-1.38888888888741095749e-03 +
                                  z * (2.48015872894767294178e-05 +
                                       z * (-2.75573143513906633035e-07 +
                                            z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11)))));
  const uint64_t swaps = 0 - uint64_t{quarter & 1};
  const uint64_t of_cosine = std::bit_cast<uint64_t>(cosine), of_sine = std::bit_cast<uint64_t>(sine);
  const uint64_t x = ((of_cosine & ~swaps) | (of_sine & swaps)) ^ (uint64_t{(quarter + 1) & 2} << 62);
  const uint64_t y = ((of_sine & ~swaps) | (of_cosine & swaps)) ^ (uint64_t{quarter & 2} << 62);
  return {static_cast<float>(radius * std::bit_cast<double>(x)), static_cast<float>(radius * std::bit_cast<double>(y))};
}

}  // namespace thimble
