// SHERL: what the late blocks read, by hand.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "methods/streamed_model.h"

namespace thimble {
namespace {

constexpr int64_t kWidth = 8, kNarrow = 4;

struct Model : StreamedModel {
  Model(double late, double every)
      : StreamedModel(kSherl, kWidth, {{"reduction", 2}, {"late", late}, {"every", every}}) {}

  // W x + b, row by row.
  Row linear(const std::string& name, const Row& x, int64_t in, int64_t out) {
    Row y;
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t i = 0; i < out; ++i)
        y.push_back(dot(x, at(name + ".weight"), row, i, in) + at(name + ".bias")[static_cast<size_t>(i)]);
    return y;
  }
  Row narrow(int64_t l) {
    const std::string name = fmt::format("sherl.{}.", l);
    Row z = linear(name + "fc1", stream(l), kWidth, kNarrow);
    for (double& one : z) one = std::max(one, 0.0);
    const Row moved = linear(name + "fc2", z, kNarrow, kNarrow), gate = linear(name + "fc3", z, kNarrow, kNarrow);
    for (size_t i = 0; i < z.size(); ++i) z[i] = (moved[i] + z[i]) / (1 + std::exp(-gate[i]));
    return z;
  }
  // What the first late block reads, of narrow rows of these blocks; the last is the guide.
  Row gathered(const std::vector<int64_t>& blocks) {
    std::vector<Row> x;
    for (const int64_t l : blocks) x.push_back(narrow(l));
    Row guide = x.back();
    x.pop_back();
    for (int64_t row = 0; row < kRows; ++row) {
      const auto cosine = [&](const Row& a, const Row& b) {
        return dot(a, b, row, row, kNarrow) / std::sqrt(dot(a, a, row, row, kNarrow) * dot(b, b, row, row, kNarrow));
      };
      std::vector<double> v;
      double total = 0;
      for (const Row& one : x) {
        double agreement = 0, redundancy = 0;
        for (int64_t i = 0; i < kNarrow; ++i)
          agreement += at("sherl.attention")[static_cast<size_t>(i)] * x_at(guide, row, i) * x_at(one, row, i);
        for (const Row& other : x) redundancy += std::max(0.0, cosine(one, other));
        v.push_back(std::max(0.0, agreement) / redundancy);
        total += v.back();
      }
      Row sum(kNarrow);
      for (int64_t i = 0; i < kNarrow; ++i) {
        sum[static_cast<size_t>(i)] = x_at(guide, row, i);
        for (size_t k = 0; k < x.size() && total > 0; ++k)
          sum[static_cast<size_t>(i)] += v[k] / total * x_at(x[k], row, i);
      }
      for (int64_t i = 0; i < kNarrow; ++i)
        guide[static_cast<size_t>(row * kNarrow + i)] = std::max(0.0, sum[static_cast<size_t>(i)]);
    }
    Row y = linear("sherl.out", guide, kNarrow, kWidth);
    const Row h = stream(blocks.back());
    for (size_t i = 0; i < y.size(); ++i) y[i] += h[i];
    return y;
  }
  static double x_at(const Row& x, int64_t row, int64_t i) { return x[static_cast<size_t>(row * kNarrow + i)]; }
};

TEST(Sherl, late_blocks_read_what_early_ones_made) {
  Model one(1, 1), two(2, 1), other(1, 2);
  ASSERT_TRUE(one.made && two.made && other.made) << one.made.error().message;
  expect_near(one.at("head"), one.block(3, one.gathered({0, 1, 2, 3})));
  expect_near(two.at("head"), two.block(3, two.block(2, two.gathered({0, 1, 2}))));
  expect_near(other.at("head"), other.block(3, other.gathered({1, 3})));
  EXPECT_EQ(one.made->tensors.size(), 4U * 6 + 3);
}

TEST(Sherl, refuses_what_leaves_nothing_to_gather) {
  EXPECT_THAT(Model(4, 1).made.error().message, testing::HasSubstr("nothing before its last ones is gathered"));
  EXPECT_FALSE(Model(1, 4).made);
  EXPECT_FALSE(StreamedModel(kSherl, kWidth, {{"reduction", 16}}).made);
}

}  // namespace
}  // namespace thimble
