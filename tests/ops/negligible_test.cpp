// Gradients of the head without what is negligible: close to the exact ones, by no more than was left out, and the same
// however many granules go at once.
#include "ops/negligible.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/random.h"
#include "ops/rows.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kWidth = 24, kVocab = 1500;  // a whole tile of the vocabulary and a part
constexpr float kScale = 0.5f;

std::vector<float> normal(int64_t count, uint64_t stream, float scale) {
  const Random random(7, stream, 0);
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = scale * random.normal(i);
  return out;
}

struct Head {
  int64_t rows;
  const Codec* codec;
  std::vector<std::byte> x;
  std::vector<float> w = normal(kVocab * kWidth, 2, 1);
  std::vector<int32_t> targets;

  Head(int64_t rows, const Codec* codec, float peaked) : rows(rows), codec(codec) {
    const std::vector<float> values = normal(rows * kWidth, 1, peaked);
    x.resize(static_cast<size_t>(codec->bytes(rows * kWidth)));
    codec->encode(values.data(), x.data(), rows * kWidth);
    for (int64_t i = 0; i < rows; ++i) targets.push_back(i % 5 == 3 ? -1 : static_cast<int32_t>(i * 7919 % kVocab));
  }
};

struct Gradients {
  std::vector<float> nll, dx, dw;
};

// Rows [first, first + count) of the head, which begin a granule.
void run(Head& head, float negligible, int threads, int64_t first, int64_t count, Gradients& out) {
  Threads team(threads);
  const Multiply multiply = head.codec == &kBf16 && multiplies(Multiply::bf16) ? Multiply::bf16 : Multiply::f32;
  RunContext context{team, multiply, 0, 0, 0};
  const std::any attributes = CrossEntropyAttributes{negligible};
  float scale = kScale;
  std::vector<float> nll(static_cast<size_t>(count)), lse(nll);
  std::vector<std::byte> dx(static_cast<size_t>(head.codec->bytes(count * kWidth)));
  const auto bytes = [](auto& values) { return reinterpret_cast<std::byte*>(values.data()); };
  const Operand x{head.x.data() + head.codec->bytes(first * kWidth), {count, kWidth}, head.codec},
      w{bytes(head.w), {kVocab, kWidth}}, targets{bytes(head.targets) + 4 * first, {count}, &kI32},
      by{reinterpret_cast<std::byte*>(&scale), {1}}, y{bytes(nll), {count}}, d{dx.data(), {count, kWidth}, head.codec},
      l{bytes(lse), {count}}, dw{bytes(out.dw), {kVocab, kWidth}};
  const auto call = [&](const Op& op, const std::vector<Operand>& in, const std::vector<Operand>& results) {
    std::vector<Type> types, made;
    for (const Operand& o : in) types.push_back({o.shape, o ? o.codec : nullptr});
    for (const Operand& o : results) made.push_back({o.shape, o ? o.codec : nullptr});
    std::vector<std::byte> workspace(
        static_cast<size_t>(op.workspace(attributes, types, made, context.multiply, threads)));
    op.run({attributes, in, results, workspace, context});
  };
  call(kLinearCrossEntropy, {x, w, targets, by, {}}, {y, d, l, {}});
  call(kLinearCrossEntropyDw, {dw, x, w, targets, by, l, {}, {}, {}, {}}, {dw});
  out.nll.insert(out.nll.end(), nll.begin(), nll.end());
  std::vector<float> wide(static_cast<size_t>(count * kWidth));
  head.codec->decode(dx.data(), wide.data(), count * kWidth);
  out.dx.insert(out.dx.end(), wide.begin(), wide.end());
}

Gradients gradients(Head& head, float negligible, int threads = 2, int64_t rows_at_once = 0) {
  Gradients out{.nll = {}, .dx = {}, .dw = std::vector<float>(static_cast<size_t>(kVocab * kWidth))};
  const int64_t step = rows_at_once ? rows_at_once : head.rows;
  for (int64_t first = 0; first < head.rows; first += step)
    run(head, negligible, threads, first, std::min(step, head.rows - first), out);
  return out;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - double{b[i]}));
  return largest;
}

TEST(Negligible, is_left_out_of_gradients_and_of_nothing_else) {
  for (const Codec* codec : {&kF32, &kBf16}) {
    Head head(700, codec,
              1.5f);  // logits of some +-20: most probabilities are nothing, many columns are needed by no row
    const Gradients exact = gradients(head, 0), near = gradients(head, 1e-3f);
    EXPECT_EQ(near.nll, exact.nll);
    EXPECT_NE(near.dx, exact.dx);
    EXPECT_NE(near.dw, exact.dw);
    // Less than 0.001 for each column, of which few come near it.
    EXPECT_LT(largest_difference(near.dx, exact.dx), 0.02 * kScale * 3);
    EXPECT_LT(largest_difference(near.dw, exact.dw), 0.02 * kScale * 6);
  }
}

TEST(Negligible, everything_is_kept_where_the_bound_is_nothing) {
  Head head(600, &kBf16, 1.5f);
  const Gradients exact = gradients(head, 0), all = gradients(head, 1e-38f);
  EXPECT_EQ(all.nll, exact.nll);
  EXPECT_LT(largest_difference(all.dx, exact.dx), 1e-2);
  EXPECT_LT(largest_difference(all.dw, exact.dw), 1e-2);
}

TEST(Negligible, does_not_depend_on_threads_or_on_how_many_granules_go_at_once) {
  Head head(2 * kGranule + 100, &kBf16, 1.5f);
  const Gradients expected = gradients(head, 1e-3f, 1);
  for (int threads : {2, 3})
    for (int64_t rows : {int64_t{0}, kGranule, 2 * kGranule}) {
      const Gradients found = gradients(head, 1e-3f, threads, rows);
      EXPECT_EQ(found.nll, expected.nll);
      EXPECT_EQ(found.dx, expected.dx);
      EXPECT_EQ(found.dw, expected.dw);
    }
}

TEST(Negligible, columns_move_together) {
  Threads threads(2);
  std::vector<float> values(3 * 10);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::vector<int32_t> columns = {0, 3, 4, 9};
  compact_rows(threads, {&kF32, reinterpret_cast<const std::byte*>(values.data()), 3, 10, 0}, columns);
  for (size_t r = 0; r < 3; ++r)
    for (size_t i = 0; i < columns.size(); ++i)
      EXPECT_EQ(values[r * 10 + i], static_cast<float>(r * 10) + static_cast<float>(columns[i]));
}

}  // namespace
}  // namespace thimble
