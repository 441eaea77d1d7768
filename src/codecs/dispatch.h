// Run-time choice of instruction set (core/isa.h). A kernel body is one always-inline function with plain loops; it is
// compiled for x86-64, for AVX2 and for AVX-512, and the copy of the level in use is called. No copy may contract a
// multiply and an add (-ffp-contract=off), so every level gives the same bits.
//
// Not `target_clones`: its indirect functions are resolved before a sanitizer's runtime is up, and crash there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/half.h"
#include "core/isa.h"

namespace thimble {

// Marks a kernel body.
#define THIMBLE_BODY [[gnu::always_inline]] inline

template <auto for_512, auto for_256, auto for_128>
struct Dispatched;

#if defined(__x86_64__)

template <class Result, class... Args, Result (*for_512)(Args...) noexcept, Result (*for_256)(Args...) noexcept,
          Result (*for_128)(Args...) noexcept>
struct Dispatched<for_512, for_256, for_128> {
  [[gnu::target("arch=x86-64-v4")]] static Result v4(Args... args) noexcept { return for_512(args...); }
  [[gnu::target("arch=x86-64-v3")]] static Result v3(Args... args) noexcept { return for_256(args...); }
  static Result baseline(Args... args) noexcept { return for_128(args...); }

  static Result call(Args... args) noexcept {
    if (isa_has(Isa::avx512)) return v4(args...);
    if (isa_has(Isa::avx2)) return v3(args...);
    return baseline(args...);
  }
};

#else

template <class Result, class... Args, Result (*for_512)(Args...) noexcept, Result (*for_256)(Args...) noexcept,
          Result (*for_128)(Args...) noexcept>
struct Dispatched<for_512, for_256, for_128> {
  static Result call(Args... args) noexcept { return for_128(args...); }
};

#endif

// The function to call, or to put in a table: `decode = dispatched<decode_blocks>`. A body that is written for vector
// registers of some bytes is given for each width (kernels/register_lanes.h):
// `dispatched<body<64>, body<32>, body<16>>`.
template <auto body, auto for_256 = body, auto for_128 = for_256>
inline constexpr auto* dispatched = &Dispatched<body, for_256, for_128>::call;

// Unaligned scalars of a block. The compiler's type converts with one instruction where the level has it (F16C; every
// AArch64) and in libgcc elsewhere, with the same bits (signalling NaNs become quiet in all). Clang of the same age has
// no such type on x86.
#if defined(__x86_64__) && defined(__clang__)

inline float load_f16(const std::byte* from) noexcept {
  uint16_t bits;
  std::memcpy(&bits, from, sizeof bits);
  return f16_to_f32(bits);
}

inline void store_f16(float value, std::byte* to) noexcept {
  const uint16_t bits = f32_to_f16(value);
  std::memcpy(to, &bits, sizeof bits);
}

#else

#if defined(__aarch64__)
using Half = __fp16;  // GCC 12 knows the other name in C only
#else
using Half = _Float16;
#endif

inline float load_f16(const std::byte* from) noexcept {
  Half value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<float>(value);
}

inline void store_f16(float value, std::byte* to) noexcept {
  const Half half = static_cast<Half>(value);
  std::memcpy(to, &half, sizeof half);
}

#endif

}  // namespace thimble
