#include "core/isa.h"

#include <algorithm>
#include <array>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace thimble {
namespace {

constexpr uint32_t bits(auto... of) { return ((uint32_t{1} << of) | ...); }

#if defined(__x86_64__)

// What -march=x86-64-v3 lets a compiler use: SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, OSXSAVE, AVX,
// F16C; BMI1, AVX2, BMI2; LAHF, LZCNT. Some hypervisors hide one of them and show AVX2.
constexpr CpuBits kAvx2 = {.leaf1_ecx = bits(0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29),
                           .leaf7_ebx = bits(3, 5, 8),
                           .extended1_ecx = bits(0, 5),
                           .xcr0 = bits(1, 2)};  // XMM, YMM

// With the VEX encoding of vpdpbusd, of CPUs without AVX-512.
constexpr CpuBits kAvxVnni = [] {
  CpuBits needs = kAvx2;
  needs.leaf7_1_eax |= bits(4);
  return needs;
}();

// -march=x86-64-v4: AVX-512 F, DQ, CD, BW, VL; mask registers and both halves of ZMM saved.
constexpr CpuBits kAvx512 = [] {
  CpuBits needs = kAvx2;
  needs.leaf7_ebx |= bits(16, 17, 28, 30, 31);
  needs.xcr0 |= bits(5, 6, 7);
  return needs;
}();
constexpr CpuBits kAvx512Vnni = [] {
  CpuBits needs = kAvx512;
  needs.leaf7_ecx |= bits(11);
  return needs;
}();
constexpr CpuBits kAvx512Bf16 = [] {
  CpuBits needs = kAvx512Vnni;
  needs.leaf7_1_eax |= bits(5);
  return needs;
}();

// AMX-BF16, AMX-TILE; tile configuration and tile data saved.
constexpr uint32_t kTileRegisters = bits(17, 18);
constexpr CpuBits kAmxBf16 = [] {
  CpuBits needs = kAvx512Bf16;
  needs.leaf7_edx |= bits(22, 24);
  needs.xcr0 |= kTileRegisters;
  return needs;
}();

constexpr IsaSet kUpToAvx2 = isa_bit(Isa::baseline) | isa_bit(Isa::avx2),
                 kUpToAvx512 = kUpToAvx2 | isa_bit(Isa::avx512),
                 kUpToAvx512Vnni = kUpToAvx512 | isa_bit(Isa::avx512_vnni),
                 kUpToAvx512Bf16 = kUpToAvx512Vnni | isa_bit(Isa::avx512_bf16);

constexpr std::array kLevels = {
    IsaLevel{Isa::baseline, "baseline", "x86-64 as every processor has it: SSE2", isa_bit(Isa::baseline), {}},
    IsaLevel{Isa::avx2, "avx2", "AVX2 with FMA and F16C", kUpToAvx2, kAvx2},
    IsaLevel{Isa::avx_vnni, "avx_vnni", "AVX2 and dot products of int8 quads", kUpToAvx2 | isa_bit(Isa::avx_vnni),
             kAvxVnni},
    IsaLevel{Isa::avx512, "avx512", "AVX-512 F, BW, CD, DQ, VL", kUpToAvx512, kAvx512},
    IsaLevel{Isa::avx512_vnni, "avx512_vnni", "and dot products of int8 quads", kUpToAvx512Vnni, kAvx512Vnni},
    IsaLevel{Isa::avx512_bf16, "avx512_bf16", "and dot products of bf16 pairs", kUpToAvx512Bf16, kAvx512Bf16},
    IsaLevel{Isa::amx_bf16, "amx_bf16", "AMX: and products of bf16 tiles", kUpToAvx512Bf16 | isa_bit(Isa::amx_bf16),
             kAmxBf16},
};

bool asks_the_system(const IsaLevel& level) noexcept { return (level.needs.xcr0 & kTileRegisters) != 0; }

// Whether this process may use the registers of a level; once granted they stay so.
bool allowed(const IsaLevel& level) noexcept {
  constexpr long kRequest = 0x1023,
                 kTileData = 18;  // ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA of Linux's asm/prctl.h
  return !asks_the_system(level) || ::syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

uint32_t saved_registers() noexcept {
  uint32_t low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

#elif defined(__aarch64__)

// What -march=armv8.2-a+dotprod lets a compiler use: CRC32, LSE atomics, SQRDMLAH, SDOT; and with +i8mm SMMLA. The
// numbers are those of Linux's asm/hwcap.h.
constexpr CpuBits kNeonDotprod = {.hwcap = bits(7, 8, 12, 20)};
constexpr CpuBits kNeonI8mm = {.hwcap = kNeonDotprod.hwcap, .hwcap2 = bits(13)};

constexpr IsaSet kUpToNeon = isa_bit(Isa::neon), kUpToDotprod = kUpToNeon | isa_bit(Isa::neon_dotprod),
                 kUpToI8mm = kUpToDotprod | isa_bit(Isa::neon_i8mm);

constexpr std::array kLevels = {
    IsaLevel{Isa::neon, "neon", "Advanced SIMD, as every AArch64 processor has it", kUpToNeon, {}},
    IsaLevel{Isa::neon_dotprod, "neon_dotprod", "and dot products of int8 quads", kUpToDotprod, kNeonDotprod},
    IsaLevel{Isa::neon_i8mm, "neon_i8mm", "and products of int8 matrices", kUpToI8mm, kNeonI8mm},
};

#else

constexpr std::array kLevels = {
    IsaLevel{Isa::baseline, "baseline", "what the compiler takes for granted", isa_bit(Isa::baseline), {}}};

#endif

#if !defined(__x86_64__)
bool asks_the_system(const IsaLevel&) noexcept { return false; }
bool allowed(const IsaLevel&) noexcept { return true; }
#endif

bool has_all(const CpuBits& cpu, const CpuBits& needs) noexcept {
  const auto has = [](uint32_t there, uint32_t needed) { return (there & needed) == needed; };
  return has(cpu.leaf1_ecx, needs.leaf1_ecx) && has(cpu.leaf7_ebx, needs.leaf7_ebx) &&
         has(cpu.leaf7_ecx, needs.leaf7_ecx) && has(cpu.leaf7_edx, needs.leaf7_edx) &&
         has(cpu.leaf7_1_eax, needs.leaf7_1_eax) && has(cpu.extended1_ecx, needs.extended1_ecx) &&
         has(cpu.xcr0, needs.xcr0) && has(cpu.hwcap, needs.hwcap) && has(cpu.hwcap2, needs.hwcap2);
}

// The widest level of this CPU for which `may_use` is true.
template <class MayUse>
ActiveIsa widest(const MayUse& may_use) noexcept {
  const IsaSet here = this_cpu_levels();
  ActiveIsa active;
  for (const IsaLevel& level : kLevels)
    if (here & isa_bit(level.isa) && may_use(level)) active = {level.isa, level.includes};
  return active;
}

}  // namespace

// Before this runs, as other files' variables may be made, it is all zeros: the baseline.
ActiveIsa active_isa = widest([](const IsaLevel& level) { return !asks_the_system(level); });

CpuBits this_cpu_bits() noexcept {
  CpuBits cpu;
#if defined(__x86_64__)
  uint32_t eax, ebx, ecx, edx;
  if (__get_cpuid_count(1, 0, &eax, &ebx, &ecx, &edx)) cpu.leaf1_ecx = ecx;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    cpu.leaf7_ebx = ebx, cpu.leaf7_ecx = ecx, cpu.leaf7_edx = edx;
    if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) cpu.leaf7_1_eax = eax;
  }
  if (__get_cpuid_count(0x80000001, 0, &eax, &ebx, &ecx, &edx)) cpu.extended1_ecx = ecx;
  if (cpu.leaf1_ecx & bits(27)) cpu.xcr0 = saved_registers();
#elif defined(__aarch64__)
  cpu.hwcap = static_cast<uint32_t>(getauxval(AT_HWCAP));
  cpu.hwcap2 = static_cast<uint32_t>(getauxval(AT_HWCAP2));
#endif
  return cpu;
}

std::span<const IsaLevel> isa_levels() { return kLevels; }

IsaSet isa_levels_of(const CpuBits& cpu) noexcept {
  IsaSet levels = 0;
  for (const IsaLevel& level : kLevels)
    if (has_all(cpu, level.needs)) levels |= isa_bit(level.isa);
  return levels;
}

IsaSet this_cpu_levels() noexcept {
  static const IsaSet levels = isa_levels_of(this_cpu_bits());
  return levels;
}

std::string isa_names(IsaSet levels) {
  std::string names;
  for (const IsaLevel& level : kLevels) {
    if (!(levels & isa_bit(level.isa))) continue;
    if (!names.empty()) names += ", ";
    names += level.name;
  }
  return names;
}

std::string_view isa_name() noexcept {
  return std::find_if(kLevels.begin(), kLevels.end(), [](const IsaLevel& l) { return l.isa == active_isa.level; })
      ->name;
}

Result<void> use_isa(std::string_view name) {
  const auto found = std::find_if(kLevels.begin(), kLevels.end(), [&](const IsaLevel& l) { return l.name == name; });
  const bool here = found != kLevels.end() && this_cpu_levels() & isa_bit(found->isa);
  if (here && allowed(*found)) {
    active_isa = {found->isa, found->includes};
    return {};
  }
  return fail(ErrorCode::invalid_argument, "--isa {}: {}; this CPU has {}", name,
              found == kLevels.end() ? "there is no such level"
              : here                 ? "the system does not give its registers to this process"
                                     : "this CPU lacks it",
              isa_names(this_cpu_levels()));
}

void use_isa(Isa level) noexcept {
  for (const IsaLevel& l : kLevels)
    if (l.isa == level && allowed(l)) active_isa = {l.isa, l.includes};
}

void use_widest_isa() noexcept { active_isa = widest(allowed); }

}  // namespace thimble
