// Linked into tests that are run again as on a CPU without AVX-512.
#include <gtest/gtest.h>
#include <hwy/highway.h>

#include <algorithm>

#include "codecs/dispatch.h"
#include "kernels/micro.h"

namespace thimble {
namespace {

const bool kOnlyAvx2 = [] {
  hwy::DisableTargets(HWY_AVX2 - 1);  // whatever is better
  instruction_set = std::min(instruction_set, InstructionSet::v3);
  return true;
}();

TEST(OnlyAvx2, is_so) {
  EXPECT_LE(micro_f32().lanes, 8);
  EXPECT_LE(instruction_set, InstructionSet::v3);
}

}  // namespace
}  // namespace thimble
