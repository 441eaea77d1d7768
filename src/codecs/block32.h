// What q4_0, q4_1, q5_0 and q5_1 share: blocks of 32 codes of four or five bits, as in GGUF.
//
//   Block   | d: f16 | m: f16, with a minimum | h: u32, of five bits | q[16] |
//           q[i] = low four bits of code i | of code i + 16 << 4;  bit i of h is the fifth bit of code i
//   Value   d * (code - half the codes), or with a minimum d * code + m
#pragma once

#include <cmath>
#include <limits>

#include "codecs/codec.h"
#include "codecs/dispatch.h"
#include "codecs/short_loop.h"

namespace thimble {

template <int kBits, bool kMinimum>
struct Block32 {
  static_assert(kBits == 4 || kBits == 5);
  static constexpr int kBlock = 32, kHalf = kBlock / 2;
  static constexpr int kCodes = 1 << kBits, kZero = kCodes / 2;  // kZero: the code of 0, without a minimum
  static constexpr int kHigh = kMinimum ? 4 : 2;                 // where h begins
  static constexpr int kLow = kHigh + (kBits == 5 ? 4 : 0);      // where q begins
  static constexpr int kBytes = kLow + kHalf;

  THIMBLE_BODY static float value(uint32_t code, float d, float m) noexcept {
    const auto number = static_cast<int32_t>(code);
    if constexpr (kMinimum) return static_cast<float>(number) * d + m;
    return static_cast<float>(number - kZero) * d;
  }

  template <bool unrolled>
  THIMBLE_BODY static void decode(const std::byte* from, float* __restrict to, int64_t count) noexcept {
    for (int64_t start = 0; start < count; start += kBlock, from += kBytes, to += kBlock) {
      const float d = load_f16(from);
      const float m = kMinimum ? load_f16(from + 2) : 0.0f;
      uint8_t q[kHalf];
      std::memcpy(q, from + kLow, kHalf);
      // Shifts of 32-bit lanes in a loop of their own: vector code has none of single bytes.
      uint32_t fifth[kBlock] = {};
      if constexpr (kBits == 5) {
        uint32_t h;
        std::memcpy(&h, from + kHigh, 4);
        for (int i = 0; i < kBlock; ++i) fifth[i] = (h >> i & 1) << 4;
      }
      short_loop<unrolled, kHalf>([&](int i)
                                      __attribute__((always_inline)) { to[i] = value((q[i] & 15u) | fifth[i], d, m); });
      short_loop<unrolled, kHalf>([&](int i) __attribute__((always_inline)) {
        to[i + kHalf] = value((q[i] >> 4u) | fifth[i + kHalf], d, m);
      });
    }
  }

  // `value` is the code and a half. Only what is not finite lies below zero or is NaN; it becomes code 0.
  THIMBLE_BODY static uint8_t code(float value) noexcept {
    constexpr float kTop = kCodes - 1;
    value = value > 0.0f ? value : 0.0f;
    return static_cast<uint8_t>(value < kTop ? value : kTop);
  }

  // Step and value of code 0.
  struct Scale {
    float d, m;
  };
  THIMBLE_BODY static Scale scale_of(const float* x) noexcept {
    if constexpr (kMinimum) {
      float smallest = std::numeric_limits<float>::max(), largest = -std::numeric_limits<float>::max();
      for (int i = 0; i < kBlock; ++i) {
        smallest = x[i] < smallest ? x[i] : smallest;
        largest = x[i] > largest ? x[i] : largest;
      }
      return {(largest - smallest) / (kCodes - 1), smallest};
    } else {
      float magnitude = 0, extreme = 0;  // extreme: the first of largest magnitude, with its sign
      for (int i = 0; i < kBlock; ++i)
        if (magnitude < std::abs(x[i])) magnitude = std::abs(x[i]), extreme = x[i];
      return {extreme / -kZero, 0};
    }
  }

  THIMBLE_BODY static void encode(const float* from, std::byte* to, int64_t count) noexcept {
    constexpr float kOffset = kMinimum ? 0.5f : kZero + 0.5f;
    for (int64_t start = 0; start < count; start += kBlock, from += kBlock, to += kBytes) {
      const Scale scale = scale_of(from);
      const float inverse = scale.d != 0 ? 1.0f / scale.d : 0.0f;
      const auto code_of = [&](float x) { return code((kMinimum ? x - scale.m : x) * inverse + kOffset); };
      store_f16(scale.d, to);
      if constexpr (kMinimum) store_f16(scale.m, to + 2);
      uint32_t h = 0;
      uint8_t q[kHalf];
      for (int i = 0; i < kHalf; ++i) {
        const uint8_t low = code_of(from[i]), high = code_of(from[i + kHalf]);
        q[i] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
        h |= static_cast<uint32_t>(low >> 4) << i | static_cast<uint32_t>(high >> 4) << (i + kHalf);
      }
      if constexpr (kBits == 5) std::memcpy(to + kHigh, &h, 4);
      std::memcpy(to + kLow, q, kHalf);
    }
  }
};

}  // namespace thimble
