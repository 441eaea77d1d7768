// What every codec must do: a new row of the table is tested the moment it is listed.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "codecs/codec.h"
#include "core/random.h"

namespace thimble {
namespace {

TEST(CodecContract, round_trip_stays_within_the_stated_error) {
  for (const Codec* codec : codecs()) {
    SCOPED_TRACE(codec->name);
    const int64_t count = 4 * 256;
    const Random random(7, codec->name);
    std::vector<float> from(count), to(count);
    for (int64_t i = 0; i < count; ++i) from[i] = random.normal(i);
    std::vector<std::byte> bytes(codec->bytes(count));
    codec->encode(from.data(), bytes.data(), count);
    codec->decode(bytes.data(), to.data(), count);
    for (int64_t start = 0; start < count; start += codec->block) {
      float largest = 0;
      for (int64_t i = start; i < start + codec->block; ++i) largest = std::max(largest, std::abs(from[i]));
      for (int64_t i = start; i < start + codec->block; ++i)
        EXPECT_LE(std::abs(from[i] - to[i]), codec->max_error * largest) << "element " << i;
    }
  }
}

}  // namespace
}  // namespace thimble
