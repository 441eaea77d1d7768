// Plans of inference: what waits on disk, and what is booked beside the programs.
#include <gmock/gmock.h>

#include "plan/inference.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

const Machine kMachine;

InferenceSpec generation() {
  InferenceSpec spec;
  spec.architecture = tiny_llama();
  spec.stored = [](const std::string& name) -> const Codec* { return name == "lm_head.weight" ? nullptr : &kF32; };
  spec.context = 64, spec.disk_least_bytes = 4096;
  return spec;
}

TEST(InferencePlan, only_what_does_not_fit_waits_on_disk) {
  InferenceSpec spec = generation();
  const auto plenty = plan_inference(spec);
  ASSERT_TRUE(plenty) << plenty.error().message;
  EXPECT_EQ(plenty->scratch_bytes, 0);
  int64_t before = 0;
  for (const double part : {0.9, 0.75, 0.6}) {
    spec.budget_bytes = static_cast<int64_t>(part * static_cast<double>(plenty->bytes()));
    spec.machine = nullptr;
    const auto refused = plan_inference(spec);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::over_budget);
    EXPECT_THAT(refused.error().message, testing::HasSubstr("--scratch none"));
    spec.machine = []() -> const Machine& { return kMachine; };
    const auto tight = plan_inference(spec);
    ASSERT_TRUE(tight) << tight.error().message;
    EXPECT_LE(tight->bytes(), spec.budget_bytes);
    EXPECT_GT(tight->scratch_bytes, before) << "a smaller budget puts more on disk";
    EXPECT_GE(tight->read_bytes, tight->scratch_bytes / 2);
    EXPECT_EQ(tight->ledger.numerics_hash, plenty->ledger.numerics_hash);
    before = tight->scratch_bytes;
  }
  spec.budget_bytes = 10'000;
  EXPECT_FALSE(plan_inference(spec));
}

// In memory and with weights on disk.
TEST(InferencePlan, what_values_begin_with_is_booked) {
  InferenceSpec spec = generation();
  spec.begin_bytes = 5'000'000;
  spec.machine = []() -> const Machine& { return kMachine; };
  const auto plenty = plan_inference(spec);
  ASSERT_TRUE(plenty) << plenty.error().message;
  EXPECT_GE(plenty->transient_bytes, spec.begin_bytes);
  spec.budget_bytes = plenty->bytes() - 100'000;
  const auto tight = plan_inference(spec);
  ASSERT_TRUE(tight) << tight.error().message;
  EXPECT_GT(tight->scratch_bytes, 0);
  EXPECT_GE(tight->transient_bytes, spec.begin_bytes);
}

}  // namespace
}  // namespace thimble
