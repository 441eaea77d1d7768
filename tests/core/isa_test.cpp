#include "core/isa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thimble {
namespace {

CpuBits everything() {
  constexpr uint32_t kAll = ~0u;
  return {kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll, kAll};
}

const IsaLevel& widest_level() { return isa_levels().back(); }

TEST(Isa, a_cpu_with_every_bit_has_every_level) {
  IsaSet all = 0;
  for (const IsaLevel& level : isa_levels()) all |= isa_bit(level.isa);
  EXPECT_EQ(isa_levels_of(everything()), all);
}

TEST(Isa, the_lowest_level_needs_nothing) { EXPECT_EQ(isa_levels_of({}), isa_bit(isa_levels().front().isa)); }

// Hypervisors hide single features: a level whose compiler may use a hidden one must not be taken.
TEST(Isa, each_bit_that_is_hidden_takes_the_levels_that_need_it) {
  constexpr uint32_t CpuBits::*kWords[] = {&CpuBits::leaf1_ecx, &CpuBits::leaf7_ebx,   &CpuBits::leaf7_ecx,
                                           &CpuBits::leaf7_edx, &CpuBits::leaf7_1_eax, &CpuBits::extended1_ecx,
                                           &CpuBits::xcr0,      &CpuBits::hwcap,       &CpuBits::hwcap2};
  for (const auto word : kWords)
    for (int bit = 0; bit < 32; ++bit) {
      CpuBits cpu = everything();
      cpu.*word &= ~(1u << bit);
      for (const IsaLevel& level : isa_levels()) {
        const bool needed = (level.needs.*word >> bit & 1) != 0;
        EXPECT_EQ((isa_levels_of(cpu) & isa_bit(level.isa)) == 0, needed) << level.name << " bit " << bit;
      }
    }
}

TEST(Isa, what_a_level_includes_it_needs_too) {
  for (const IsaLevel& level : isa_levels())
    for (const IsaLevel& other : isa_levels())
      if (level.includes & isa_bit(other.isa)) {
        EXPECT_NE(isa_levels_of(level.needs) & isa_bit(other.isa), 0u) << level.name << " includes " << other.name;
      }
}

TEST(Isa, a_level_of_this_cpu_can_be_chosen) {
  const Isa before = active_isa.level;
  const IsaLevel& lowest = isa_levels().front();
  ASSERT_TRUE(use_isa(lowest.name));
  EXPECT_EQ(isa_name(), lowest.name);
  EXPECT_TRUE(isa_has(lowest.isa));
  EXPECT_FALSE(isa_has(widest_level().isa) && widest_level().isa != lowest.isa);
  use_isa(before);
}

TEST(Isa, what_is_not_there_is_refused_with_what_is) {
  const auto unknown = use_isa("sse9");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(unknown.error().message, testing::HasSubstr("this CPU has " + isa_names(this_cpu_levels())));
  for (const IsaLevel& level : isa_levels()) {
    if (this_cpu_levels() & isa_bit(level.isa)) continue;
    const auto lacking = use_isa(level.name);
    ASSERT_FALSE(lacking);
    EXPECT_THAT(lacking.error().message, testing::HasSubstr("this CPU lacks it"));
  }
}

}  // namespace
}  // namespace thimble
