// What @NAME@ makes of the losses of tokens. The equation of an objective of pairs or of replies goes into
// objectives_test.cpp.
#include <gtest/gtest.h>

#include "methods/objective.h"

namespace thimble {
namespace {

TEST(@PASCAL@, is_the_likelihood_times_its_weight) {
  OptionValues options(@SYMBOL@.options);
  EXPECT_EQ(@SYMBOL@.terms(options), TokenTerms{});
  ASSERT_TRUE(options.set("@NAME@", "weight", 2.5));
  EXPECT_EQ(@SYMBOL@.terms(options), (TokenTerms{.target = 2.5f}));
}

}  // namespace
}  // namespace thimble
