#include "kernels/dot/int8_dot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/random.h"
#include "kernels/narrow.h"

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

// A narrow product in int8 is near the one in f32, and its bits do not depend on threads or on the rows beside it.
TEST(Int8Dot, narrow_product) {
  const int64_t m = 5, n = 37, k = 96;
  const Codec& codec = *find_codec("q4_1");
  const Random random(8, "narrow");
  std::vector<float> x(m * k), w(n * k);
  for (size_t i = 0; i < x.size(); ++i) x[i] = random.normal(i);
  for (size_t i = 0; i < w.size(); ++i) w[i] = random.normal(1000000 + i);
  std::vector<std::byte> weights(codec.bytes(n * k));
  codec.encode(w.data(), weights.data(), n * k);
  const auto product = [&](Multiply multiply, int count, int64_t rows) {
    Threads threads(count);
    std::vector<float> c(rows * n);
    const Term term{{&kF32, reinterpret_cast<const std::byte*>(x.data()), rows, k, 0},
                    {&codec, weights.data(), n, k, 0},
                    false,
                    true,
                    1};
    const Product p{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(c.data()), .m = rows, .n = n};
    std::vector<std::byte> workspace(narrow_workspace_bytes(p, count));
    narrow(threads, multiply, p, workspace);
    return c;
  };
  const std::vector<float> exact = product(Multiply::f32, 1, m), int8 = product(Multiply::int8, 1, m);
  EXPECT_NE(exact, int8);
  for (size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(int8[i], exact[i], 0.5);
  EXPECT_EQ(product(Multiply::int8, 3, m), int8);
  const std::vector<float> one = product(Multiply::int8, 2, 1);
  for (int64_t i = 0; i < n; ++i) EXPECT_EQ(one[i], int8[i]);
}

}  // namespace
}  // namespace thimble
