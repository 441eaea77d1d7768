// Branch-free elementary functions in f32 that compilers vectorise. Relative error below 3e-7 (exp) over the range.
#pragma once

#include <bit>
#include <cstdint>

namespace thimble {

// exp(x); x below -87.3 gives 0, above 88.7 gives exp(88.7). Cody-Waite reduction and a polynomial of degree 6.
inline float exp_f32(float x) noexcept {
  const float clamped = x > 88.7f ? 88.7f : (x < -87.3f ? -87.3f : x);
  const float shifted = clamped * 1.44269504089f + 12582912.0f;  // 1.5 * 2^23: rounds to an integer
  const float n = shifted - 12582912.0f;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float y = p * r * r + r + 1.0f;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.3f ? 0.0f : y * power;
}

inline float sigmoid_f32(float x) noexcept { return 1.0f / (1.0f + exp_f32(-x)); }

inline float tanh_f32(float x) noexcept {
  const float magnitude = x < 0 ? -x : x;
  const float e = exp_f32(-2.0f * magnitude);
  const float large = (1.0f - e) / (1.0f + e);
  const float x2 = x * x;  // near zero 1 - e cancels: odd polynomial instead
  const float small =
      magnitude +
      magnitude * x2 *
          (-0.333332819f + x2 * (0.133314422f + x2 * (-0.0537397155f + x2 * 0.0206390238f - x2 * x2 * 0.00570498872f)));
  const float y = magnitude < 0.625f ? small : large;
  return x < 0 ? -y : y;
}

}  // namespace thimble
