// What @NAME@ promises beyond the contract that every optimizer is tested against (optimizers_test.cpp).
#include "methods/optimizer.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

TEST(@PASCAL@, keeps_one_number_a_parameter) {
  const auto states = @SYMBOL@.states({"p", {7, 5}}, OptionValues(@SYMBOL@.options));
  ASSERT_EQ(states.size(), 1u);
  EXPECT_EQ(states[0].shape, (Shape{7, 5}));
}

}  // namespace
}  // namespace thimble
