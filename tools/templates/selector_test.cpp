// What @NAME@ lets train, and that no bit of it depends on the budget.
#include "plan/selecting.h"

namespace thimble {
namespace {

TEST(@PASCAL@, trains_every_parameter) {
  const auto all = plan_training(tiny_spec(), Machine{}), chosen = plan_training(selecting(@SYMBOL@), Machine{});
  ASSERT_TRUE(all && chosen);
  EXPECT_EQ(trained(*chosen), trained(*all));
}

TEST(@PASCAL@, gives_the_same_bits_at_every_budget) { expect_same_at_every_budget(selecting(@SYMBOL@)); }

}  // namespace
}  // namespace thimble
