// What the K formats of GGUF share: a search for the scale (and minimum) that fits a group of values best, and the
// packing of eight 6-bit scales and minimums into 12 bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace thimble {

constexpr int kSuperBlock = 256;
constexpr int kGroup = 32;  // values that share a scale and a minimum in q4_K and q5_K
constexpr int kGroups = kSuperBlock / kGroup;
constexpr int kPackedScales = 12;  // bytes

// x is nearly scale * code - lowering, with 0 <= code <= top and lowering >= 0.
struct GroupFit {
  float scale = 0;
  float lowering = 0;
};

// The search of GGUF's reference quantiser: tries top + first + k * delta steps over the range of x, k = 0..tries,
// solves for scale and minimum by weighted least squares for each, keeps the smallest weighted squared error.
// Every sum is taken in order, so that the result is the reference's bit for bit.
struct GroupSearch {
  int top;
  float first, delta;
  int tries;
};
GroupFit fit_group(const GroupSearch& search, const float* x, const float* weights, uint8_t* codes) noexcept;

// One super-block of q4_K or q5_K before its codes are packed.
struct SuperBlockFit {
  uint16_t d, dmin;  // f16
  uint8_t scales[kPackedScales];
  uint8_t codes[kSuperBlock];
};
// importance: of each value (importance.h); nullptr: weights grow with the magnitude.
void fit_super_block(const GroupSearch& search, const float* x, const float* importance, SuperBlockFit& fit) noexcept;

// x is nearly scale * (code - half), with 0 <= code < 2 half: the scale of least weighted squared error out of 19 tries
// about max|x| / half. Nearly zeros: 0.
float fit_signed(const float* x, const float* weights, int count, int half, uint8_t* codes) noexcept;

// x >= 0 is nearly scale * code, with code <= top: the best of 9 scales about max x / top, then codes that are moved
// one by one as long as that makes the weighted squared error less. Nearly zeros: 0.
float fit_positive(const float* x, const float* weights, int count, int top, uint8_t* codes) noexcept;

// weights[i] = importance[i] sqrt(variance + x[i]^2)
void weigh_by_importance(const float* x, const float* importance, float variance, int count, float* weights) noexcept;

// Rounds half to even within [least, most]; NaN gives `least`.
int round_within(float value, float least, float most) noexcept;

// Scales s[0..7] and minimums m[0..7], six bits each:
//   byte j      (j < 4)   s[j]     | high two bits of s[j + 4] << 6
//   byte j + 4  (j < 4)   m[j]     | high two bits of m[j + 4] << 6
//   byte j + 8  (j < 4)   low four bits of s[j + 4] | of m[j + 4] << 4
inline void unpack_scales(const std::byte* from, uint8_t* s, uint8_t* m) noexcept {
  uint8_t bytes[kPackedScales];
  std::memcpy(bytes, from, sizeof bytes);
  for (int j = 0; j < 4; ++j) {
    s[j] = bytes[j] & 63;
    m[j] = bytes[j + 4] & 63;
    s[j + 4] = static_cast<uint8_t>((bytes[j + 8] & 15) | bytes[j] >> 6 << 4);
    m[j + 4] = static_cast<uint8_t>(bytes[j + 8] >> 4 | bytes[j + 4] >> 6 << 4);
  }
}

inline void pack_scales(const uint8_t* s, const uint8_t* m, uint8_t* bytes) noexcept {
  for (int j = 0; j < 4; ++j) {
    bytes[j] = static_cast<uint8_t>(s[j] | s[j + 4] >> 4 << 6);
    bytes[j + 4] = static_cast<uint8_t>(m[j] | m[j + 4] >> 4 << 6);
    bytes[j + 8] = static_cast<uint8_t>((s[j + 4] & 15) | (m[j + 4] & 15) << 4);
  }
}

}  // namespace thimble
