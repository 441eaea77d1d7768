// block_linear: y = x B with a block-diagonal B, of which the blocks are stored.
//
//   Gradient  dx = dy B^T, the same operation; dB_i = x_i^T dy_i, over granules
//   Tangent   y' = x' B + x B'
//   Order     an element of y is one sum over its block's k; of dB a sum over the rows of a granule, in order, and then
//             the granules in order
#include <algorithm>

#include "ops/backward.h"
#include "ops/blocks.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

const BlockLinearAttributes& of(const std::any& attributes) {
  return *std::any_cast<BlockLinearAttributes>(&attributes);
}

// Extents of one block: y_i [m] of x_i [k].
struct Extents {
  int64_t n, k, m;
};

Result<Extents> extents(const char* op, const BlockLinearAttributes& a, const Shape& x, const Shape& w) {
  const int64_t stored = a.shared ? 1 : a.blocks;
  if (a.blocks < 1 || x[1] % a.blocks != 0 || w[0] % stored != 0)
    return fail(ErrorCode::shape, "{}: x {} and w {} are not {} blocks", op, x.text(), w.text(), a.blocks);
  const Extents e{a.blocks, x[1] / a.blocks, a.transposed ? w[0] / stored : w[1]};
  if (e.k != (a.transposed ? w[1] : w[0] / stored))
    return fail(ErrorCode::shape, "{}: blocks of x {} do not match those of w {}{}", op, x.text(), w.text(),
                a.transposed ? " transposed" : "");
  return e;
}

Extents extents_of(const BlockLinearAttributes& a, const Shape& x, const Shape& w) {
  const int64_t stored = a.shared ? 1 : a.blocks;
  return {a.blocks, x[1] / a.blocks, a.transposed ? w[0] / stored : w[1]};
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("block_linear", in, 2));
  CHECK_OK(expect_rank("block_linear", "x", in[0], 2));
  CHECK_OK(expect_rank("block_linear", "w", in[1], 2));
  CHECK_OK(expect_f32("block_linear", "w", in[1]));
  const Extents e = TRY(extents("block_linear", of(any), in[0].shape, in[1].shape));
  return std::vector{Type{{in[0].shape[0], e.n * e.m}, of(any).codec, in[0].extent}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type> out, Multiply, int threads) {
  return row_buffer_bytes(std::max(in[0].shape[1], out[0].shape[1]), 2, threads);
}

void block_of_row(const BlockLinearAttributes& a, const Extents& e, const float* x, const float* w, float* y) noexcept {
  if (a.transposed) {
    for (int64_t j = 0; j < e.m; ++j) y[j] = dot(x, w + j * e.k, e.k);
    return;
  }
  std::fill(y, y + e.m, 0.0f);
  for (int64_t i = 0; i < e.k; ++i) add_scaled(y, w + i * e.m, x[i], e.m);
}

void run(const Call& call) noexcept {
  const auto& a = call.as<BlockLinearAttributes>();
  const Extents e = extents_of(a, call.in[0].shape, call.in[1].shape);
  const int64_t from = e.n * e.k, to = e.n * e.m, widest = std::max(from, to);
  const float* const w = call.in[1].as<const float>();
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const y = row_buffer(call, widest, 2, thread, 1);
    for (int64_t r = begin; r < end; ++r) {
      const float* const x = read_row(call.in[0], r, from, row_buffer(call, widest, 2, thread, 0));
      for (int64_t i = 0; i < e.n; ++i)
        block_of_row(a, e, x + i * e.k, w + (a.shared ? 0 : i * e.k * e.m), y + i * e.m);
      write_row(call.out[0], r, to, y);
    }
  });
}

// Element (c, j) of block i.
int64_t place(const BlockLinearAttributes& a, const Extents& e, int64_t i, int64_t c, int64_t j) {
  return (a.shared ? 0 : i * e.k * e.m) + (a.transposed ? j * e.k + c : c * e.m + j);
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& a = call.as<BlockLinearAttributes>();
  const Extents e = extents_of(a, call.in[0].shape, call.in[1].shape);
  for (int64_t r = 0; r < call.in[0].shape[0]; ++r)
    for (int64_t i = 0; i < e.n; ++i)
      for (int64_t j = 0; j < e.m; ++j) {
        double sum = 0;
        for (int64_t c = 0; c < e.k; ++c)
          sum += call.in[0][r * e.n * e.k + i * e.k + c] * call.in[1][place(a, e, i, c, j)];
        call.out[0][r * e.n * e.m + i * e.m + j] = sum;
      }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0], w = node.in[1];
  if (dy == kNone) return {};
  BlockLinearAttributes attributes = of(node.attributes);
  if (backward.wanted(w)) backward.accumulate(w, kBlockLinearDw, attributes, {backward.saved(x), dy}, ".sum");
  if (!backward.wanted(x)) return {};
  attributes.transposed = !attributes.transposed;
  attributes.codec = backward.graph().value(x).type.codec;
  backward.add(x, backward.graph().emit(kBlockLinear, attributes, {dy, w}, backward.name(x)));
  return {};
}

double products(const BlockLinearAttributes& a, std::span<const Type> in, size_t x, size_t w) {
  const Extents e = extents_of(a, in[x].shape, in[w].shape);
  return 2.0 * static_cast<double>(in[x].shape[0]) * static_cast<double>(e.n * e.k * e.m);
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::narrow) = products(of(any), in, 0, 1);
  return cost;
}

std::string text(const std::any& any) {
  const auto& a = of(any);
  return fmt::format("{{{}{}{}}}", a.blocks, a.transposed ? " T" : "", a.shared ? " shared" : "");
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{BlockLinearAttributes{.blocks = 3}, {Type{{5, 12}}, Type{{12, 7}}}},
          {BlockLinearAttributes{.blocks = 2, .transposed = true, .codec = &kBf16},
           {Type{{9, 34}, &kBf16}, Type{{66, 17}}}},
          {BlockLinearAttributes{.blocks = 4, .shared = true}, {Type{{6, 20}}, Type{{5, 5}}}},
          {BlockLinearAttributes{.blocks = 3, .transposed = true, .shared = true}, {Type{{4, 9}}, Type{{2, 3}}}}};
}

// in: accumulator, x, dy.
Result<std::vector<Type>> infer_dw(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("block_linear_dw", in, 3));
  CHECK_OK(expect_rank("block_linear_dw", "accumulator", in[0], 2));
  CHECK_OK(expect_f32("block_linear_dw", "accumulator", in[0]));
  CHECK_OK(expect_rank("block_linear_dw", "x", in[1], 2));
  CHECK_OK(expect_elements("block_linear_dw", "x", in[1]));
  CHECK_OK(expect_elements("block_linear_dw", "dy", in[2]));
  const Extents e = TRY(extents("block_linear_dw", of(any), in[1].shape, in[0].shape));
  CHECK_OK(expect_shape("block_linear_dw", "dy", in[2], {in[1].shape[0], e.n * e.m}));
  return std::vector{Type{in[0].shape}};
}

constexpr int64_t kHigh = 8;  // rows of a block that are summed at once

// Of a thread: the sums, and the parts of both operands that go into them.
int64_t workspace_dw(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(std::max({in[0].shape[0], in[0].shape[1], kHigh}), kHigh + 2, threads);
}

// Rows of the accumulator: of their block some elements of the left operand times the block of the right one.
void run_dw(const Call& call) noexcept {
  const auto& a = call.as<BlockLinearAttributes>();
  const Extents e = extents_of(a, call.in[1].shape, call.in[0].shape);
  const Matrix left = (a.transposed ? call.in[2] : call.in[1]).matrix();
  const Matrix right = (a.transposed ? call.in[1] : call.in[2]).matrix();
  const int64_t high = a.transposed ? e.m : e.k, wide = a.transposed ? e.k : e.m, rows = left.rows;
  const int64_t widest = std::max({call.in[0].shape[0], call.in[0].shape[1], kHigh});
  const int64_t parts = (high + kHigh - 1) / kHigh;
  call.run.threads.split(parts * (a.shared ? 1 : e.n), 1, [&](int64_t begin, int64_t end, int thread) {
    float* const sums = row_buffer(call, widest, kHigh + 2, thread, 0);
    float* const x = row_buffer(call, widest, kHigh + 2, thread, kHigh);
    float* const y = row_buffer(call, widest, kHigh + 2, thread, kHigh + 1);
    for (int64_t part = begin; part < end; ++part) {
      const int64_t block = part / parts, first = part % parts * kHigh, some = std::min(kHigh, high - first);
      const int64_t last = a.shared ? e.n : block + 1;
      for (int64_t row = 0; row < rows; row += kGranule) {
        std::fill(sums, sums + some * wide, 0.0f);
        for (int64_t r = row; r < std::min(rows, row + kGranule); ++r)
          for (int64_t i = block; i < last; ++i) {
            left.decode(r, i * high + first, some, x);
            right.decode(r, i * wide, wide, y);
            for (int64_t c = 0; c < some; ++c) add_scaled(sums + c * wide, y, x[c], wide);
          }
        add_scaled(call.out[0].as<float>() + (block * high + first) * wide, sums, 1, some * wide);
      }
    }
  });
}

[[gnu::cold]] void reference_dw(const ReferenceCall& call) {
  const auto& a = call.as<BlockLinearAttributes>();
  const Extents e = extents_of(a, call.in[1].shape, call.in[0].shape);
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) call.out[0][i] = call.in[0][i];
  for (int64_t r = 0; r < call.in[1].shape[0]; ++r)
    for (int64_t i = 0; i < e.n; ++i)
      for (int64_t c = 0; c < e.k; ++c)
        for (int64_t j = 0; j < e.m; ++j)
          call.out[0][place(a, e, i, c, j)] +=
              call.in[1][r * e.n * e.k + i * e.k + c] * call.in[2][r * e.n * e.m + i * e.m + j];
}

Cost cost_dw(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::narrow) = products(of(any), in, 1, 0);
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples_dw() {
  return {{BlockLinearAttributes{.blocks = 3}, {Type{{12, 7}}, Type{{5, 12}}, Type{{5, 21}}}},
          {BlockLinearAttributes{.blocks = 2, .transposed = true},
           {Type{{10, 6}}, Type{{530, 12}, &kBf16}, Type{{530, 10}, &kBf16}}},
          {BlockLinearAttributes{.blocks = 4, .shared = true}, {Type{{5, 3}}, Type{{6, 20}}, Type{{6, 12}}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kBlockLinear = {.name = "block_linear",
                         .infer = infer,
                         .text = text,
                         .gradient = gradient,
                         .tangent = linear_tangent<0, 1>,
                         .workspace = workspace,
                         .cost = cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples};
const Op kBlockLinearDw = {.name = "block_linear_dw",
                           .infer = infer_dw,
                           .text = text,
                           .workspace = workspace_dw,
                           .cost = cost_dw,
                           .reference = reference_dw,
                           .run = run_dw,
                           .samples = samples_dw,
                           .in_place = kAccumulates};

}  // namespace thimble
