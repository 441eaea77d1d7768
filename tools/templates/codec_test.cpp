// What @NAME@ promises beyond the contract that every codec is tested against.
#include <gtest/gtest.h>

#include <vector>

#include "codecs/codec.h"

namespace thimble {
namespace {

TEST(@PASCAL@, keeps_the_ends_of_the_range) {
  std::vector<float> from(@SYMBOL@.block, 0.0f), to(from.size());
  from.front() = 2.0f;
  from.back() = -2.0f;
  std::vector<std::byte> bytes(@SYMBOL@.bytes(from.size()));
  @SYMBOL@.encode(from.data(), bytes.data(), from.size());
  @SYMBOL@.decode(bytes.data(), to.data(), to.size());
  EXPECT_NEAR(to.front(), 2.0f, 2 * @SYMBOL@.max_error);
  EXPECT_NEAR(to.back(), -2.0f, 2 * @SYMBOL@.max_error);
}

}  // namespace
}  // namespace thimble
