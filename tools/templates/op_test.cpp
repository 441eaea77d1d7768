// What @NAME@ promises beyond the contract that every operation is tested against (contract_test.cpp).
#include <gtest/gtest.h>

#include "ops/table.h"

namespace thimble {
namespace {

TEST(@PASCAL@, keeps_the_shape_of_x) {
  const Type x{{3, 7}, &kBf16};
  const auto y = @SYMBOL@.infer({}, std::vector{x});
  ASSERT_TRUE(y) << y.error().message;
  EXPECT_EQ((*y)[0], x);
}

}  // namespace
}  // namespace thimble
