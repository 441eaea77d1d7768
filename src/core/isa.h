// Instruction set levels: which of a kernel's copies run. One table for the whole program. A level is the widest that
// this CPU has unless `--isa` names a lower one; every kernel asks here, at every call, so that a test or a benchmark
// can run any level that the CPU has.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

// Whether intrinsics of x86 are compiled: under GCC's pragmas, which Clang, the compiler of the fuzzing targets, lacks.
#if defined(__x86_64__) && !defined(__clang__)
#define THIMBLE_X86_INTRINSICS
#endif

namespace thimble {

enum class Isa : uint8_t {
  baseline,
  avx2,
  avx_vnni,
  avx512,
  avx512_vnni,
  avx512_bf16,
  amx_bf16,
  neon,
  neon_dotprod,
  neon_i8mm
};

// A set of levels, a bit each.
using IsaSet = uint32_t;
constexpr IsaSet isa_bit(Isa level) noexcept { return IsaSet{1} << static_cast<int>(level); }

// What the CPU says, as far as levels depend on it. Words of another architecture are zeros.
struct CpuBits {
  // x86: CPUID
  uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0, leaf7_1_eax = 0, extended1_ecx = 0;
  uint32_t xcr0 = 0;               // registers that the system saves
  uint32_t hwcap = 0, hwcap2 = 0;  // AArch64: AT_HWCAP and AT_HWCAP2 of Linux, the lower halves
};
CpuBits this_cpu_bits() noexcept;

struct IsaLevel {
  Isa isa;
  std::string_view name;         // as on the command line
  std::string_view description;  // one line
  IsaSet includes;               // the level itself and those whose kernels it may run
  CpuBits needs;                 // all bits that a compiler may rely on under this level
};

// The levels that this build has kernels for, from the lowest to the widest.
std::span<const IsaLevel> isa_levels();

// The levels of such a CPU: those of isa_levels() whose needs are all there.
IsaSet isa_levels_of(const CpuBits& cpu) noexcept;

// The levels of this CPU, "baseline, avx2".
std::string isa_names(IsaSet levels);
IsaSet this_cpu_levels() noexcept;

// The level in use, and whether kernels of a level may run under it. Reading is free; use_isa() is for the start of a
// program and for tests, while no kernel runs.
//
// Before any call it is the widest level that asks nothing of the system. Linux gives AMX's tile registers to a process
// that asks for them (arch_prctl, ARCH_REQ_XCOMP_PERM), and from then on wants alternate signal stacks that hold them:
// a library does not do so as it is loaded.
struct ActiveIsa {
  Isa level = Isa::baseline;
  IsaSet includes = 0;
};
extern ActiveIsa active_isa;
inline bool isa_has(Isa level) noexcept { return (active_isa.includes & isa_bit(level)) != 0; }
std::string_view isa_name() noexcept;

// Errors (invalid_argument): no such level, or one that this CPU lacks or whose registers the system refuses. The
// message lists those it has.
Result<void> use_isa(std::string_view name);
void use_isa(Isa level) noexcept;  // one of this CPU that the system allows
void use_widest_isa() noexcept;

}  // namespace thimble
