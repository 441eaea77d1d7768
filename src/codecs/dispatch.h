// Run-time choice of instruction set. A kernel body is one always-inline function with plain loops; it is compiled
// once for each level and the widest one the processor has is called. No level may contract a multiply and an add
// (-ffp-contract=off), so every level gives the same bits.
//
// Not `target_clones`: its indirect functions are resolved before a sanitizer's runtime is up, and crash there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/half.h"

namespace thimble {

// Marks a kernel body.
#define THIMBLE_BODY [[gnu::always_inline]] inline

#if defined(__x86_64__)

enum class InstructionSet { baseline, v3, v4 };  // v3: AVX2, F16C; v4: AVX-512 F, BW, CD, DQ, VL

// The features that tell the levels apart; what else a level holds came with them in every processor. (Named one by
// one, because only newer compilers know the levels by name here.)
inline InstructionSet widest_instruction_set() noexcept {
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return v4 ? InstructionSet::v4 : v3 ? InstructionSet::v3 : InstructionSet::baseline;
}

// Variable only so that tests can compare the levels.
inline InstructionSet instruction_set = widest_instruction_set();

template <auto body>
struct Dispatched;

template <class... Args, void (*body)(Args...) noexcept>
struct Dispatched<body> {
  [[gnu::target("arch=x86-64-v4")]] static void v4(Args... args) noexcept { body(args...); }
  [[gnu::target("arch=x86-64-v3")]] static void v3(Args... args) noexcept { body(args...); }
  static void baseline(Args... args) noexcept { body(args...); }

  static void call(Args... args) noexcept {
    switch (instruction_set) {
      case InstructionSet::v4:
        return v4(args...);
      case InstructionSet::v3:
        return v3(args...);
      case InstructionSet::baseline:
        return baseline(args...);
    }
  }
};

#else

template <auto body>
struct Dispatched;

template <class... Args, void (*body)(Args...) noexcept>
struct Dispatched<body> {
  static void call(Args... args) noexcept { body(args...); }
};

#endif

// The function to put in a table: `decode = dispatched<decode_blocks>`.
template <auto body>
inline constexpr auto* dispatched = &Dispatched<body>::call;

// Unaligned scalars of a block. _Float16 converts with F16C where the level has it and in libgcc elsewhere, with the
// same bits (signalling NaNs become quiet in both). Clang of the same age has no such type on x86.
#if defined(__clang__)

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

inline float load_f16(const std::byte* from) noexcept {
  _Float16 value;
  std::memcpy(&value, from, sizeof value);
  return static_cast<float>(value);
}

inline void store_f16(float value, std::byte* to) noexcept {
  const _Float16 half = static_cast<_Float16>(value);
  std::memcpy(to, &half, sizeof half);
}

#endif

}  // namespace thimble
