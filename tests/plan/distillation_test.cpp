// Two models in one plan: the teacher is planned like everything else, and learns nothing.
#include <gmock/gmock.h>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

using ::testing::StartsWith;

TrainingSpec distillation(const Rewrite& method) {
  TrainingSpec spec = tiny_spec(method);
  spec.objective = &kDistillation;
  spec.objective_options = OptionValues(kDistillation.options);
  EXPECT_TRUE(spec.objective_options.set("test", "temperature", 2));
  EXPECT_TRUE(spec.objective_options.set("test", "hard", 0.25));
  spec.teacher = FrozenModel{llama({.vocab = 160,
                                    .width = 96,
                                    .layers = 2,
                                    .heads = 3,
                                    .kv_heads = 3,
                                    .head_dim = 32,
                                    .ffn_width = 160,
                                    .context = 256}),
                             spec.stored};
  return spec;
}

TEST(Distillation, gives_the_same_bits_at_every_budget) {
  for (const Rewrite* method : {&kFull, &kLora}) {
    SCOPED_TRACE(method->name);
    TrainingSpec spec = distillation(*method);
    const auto plenty = plan_training(spec, Machine{});
    ASSERT_TRUE(plenty) << plenty.error().message;
    const Trajectory expected = run_plan(spec, *plenty, 3);
    for (const double loss : expected.losses) ASSERT_TRUE(std::isfinite(loss));
    ASSERT_NE(expected.losses[0], expected.losses[2]) << "nothing was trained";
    for (const bool disk : {false, true}) {
      spec.budget_bytes = 0, spec.disk = disk, spec.disk_least_bytes = 4096;
      spec.budget_bytes = smallest_budget(spec);
      const auto tight = plan_training(spec, Machine{.disk = 1e9});
      ASSERT_TRUE(tight) << tight.error().message;
      EXPECT_LT(tight->arena_bytes, plenty->arena_bytes);
      EXPECT_EQ(run_plan(spec, *tight, 3), expected) << "disk " << disk;
    }
  }
}

TEST(Distillation, has_no_gradient_for_the_teacher) {
  const TrainingSpec spec = distillation(kFull);
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  int64_t weights = 0;
  for (const auto& [name, entry] : plan->layout.entries()) {
    if (entry.role == Role::weight) {
      EXPECT_THAT(name, StartsWith(kTeacher));
      weights += entry.type.bytes();
    }
    if (entry.role == Role::gradient || entry.role == Role::state || entry.role == Role::parameter)
      EXPECT_EQ(name.find(kTeacher), std::string::npos) << name;
  }
  int64_t declared = 0;
  for (const TensorSpec& tensor : tensor_specs(spec.teacher->architecture)) declared += 4 * tensor.shape.count();
  EXPECT_EQ(weights, declared);
}

}  // namespace
}  // namespace thimble
