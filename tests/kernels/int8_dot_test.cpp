#include "kernels/dot/int8_dot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/random.h"

namespace thimble {
namespace {

// The instructions of this CPU give the reference's bits, and both come near the exact product.
TEST(Int8Dot, equals_reference_and_is_near_exact) {
  int codecs_seen = 0;
  for (const Codec* codec : codecs()) {
    if (!int8_dot(*codec)) continue;
    ++codecs_seen;
    for (int64_t n : {32, 64, 576, 1536}) {
      SCOPED_TRACE(fmt::format("{} {}", codec->name, n));
      const Random random(5, codec->name);
      std::vector<float> w(n), x(n);
      for (int64_t i = 0; i < n; ++i) w[i] = random.normal(i), x[i] = random.normal(n + i) * (i % 7 == 0 ? 5 : 1);
      std::vector<std::byte> weights(codec->bytes(n) + 1);
      codec->encode(w.data(), weights.data() + 1, n);  // misaligned
      codec->decode(weights.data() + 1, w.data(), n);
      std::vector<int8_t> codes(n);
      std::vector<float> scales(n / 32), sums(n / 32);
      const Int8Row row{codes.data(), scales.data(), sums.data()};
      quantise_int8(x.data(), n, row);
      double exact = 0, size = 0;
      for (int64_t i = 0; i < n; ++i) exact += double(w[i]) * x[i], size += std::abs(double(w[i]) * x[i]);
      const float result = int8_dot(*codec)(weights.data() + 1, row, n);
      EXPECT_EQ(result, int8_dot_reference(*codec)(weights.data() + 1, row, n));
      EXPECT_NEAR(result, exact, 0.02 * size);
    }
  }
  EXPECT_EQ(codecs_seen, 3);
}

TEST(Int8Dot, zeros_stay_zero) {
  std::vector<float> x(32, 0.0f);
  std::vector<int8_t> codes(32, 1);
  float scale = 1, sum = 1;
  quantise_int8(x.data(), 32, {codes.data(), &scale, &sum});
  EXPECT_EQ(sum, 0);
  for (int8_t code : codes) EXPECT_EQ(code, 0);
}

}  // namespace
}  // namespace thimble
