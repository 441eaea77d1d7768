// Training with the gradient of @NAME@. That its probes make a derivative is tested in estimator_test.cpp.
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TEST(@PASCAL@, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  TrainingSpec spec = tiny_spec();
  spec.estimator = &@SYMBOL@, spec.estimator_options = OptionValues(@SYMBOL@.options);
  spec.set_optimizer({&kSgd, {}}), spec.clip = 0;
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
}

}  // namespace
}  // namespace thimble
