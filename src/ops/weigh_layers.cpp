// weigh_layers: rows of several layers, weighed by agreement with a query over redundancy (weigh_layers.h).
//
//   Paper     Diao et al. 2024 (SHERL), arXiv:2407.07523, section 3.3; the authors' code (Paranioar/SHERL, Guidance)
//   Gradient  da_i = dy . x_i;  dv_i = (da_i - sum over k of a_k da_k) / V, V the sum of v;  with p_i = q . x_i > 0:
//             dp_i = dv_i / r_i;  dr_i = -dv_i v_i / r_i;  of a pair with a positive cosine dcos_ij = dr_i + dr_j;
//             dq = sum of dp_i x_i;  dx_i = a_i dy + dp_i q + sum over j of dcos_ij (u_j - cos_ij u_i) / |x_i|, where
//             u = x / |x|
//   Keeps     q and all x
#include "ops/weigh_layers.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "ops/backward.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"
#include "ops/weigh_layers_parts.h"

namespace thimble {
namespace {

using namespace weighing;

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  if (in.size() < 2) return fail(ErrorCode::shape, "weigh_layers: expected a query and layers, found {}", in.size());
  CHECK_OK(expect_rank("weigh_layers", "the query", in[0], 2));
  for (const Type& x : in.subspan(1)) CHECK_OK(expect_shape("weigh_layers", "a layer", x, in[0].shape));
  return std::vector{in[0]};
}

Result<std::vector<Type>> infer_grad(const std::any&, std::span<const Type> in) {
  if (in.size() < 3) return fail(ErrorCode::shape, "weigh_layers_grad: expected dy, a query and layers");
  CHECK_OK(expect_rank("weigh_layers_grad", "the query", in[1], 2));
  for (const Type& x : in) CHECK_OK(expect_shape("weigh_layers_grad", "dy or a layer", x, in[1].shape));
  return std::vector(in.begin() + 1, in.end());
}

// `before`: operands before the layers.
template <int before>
int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(Token<float>::size(std::ssize(in) - before, in[0].shape[1]), 1, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = std::ssize(call.in) - 1, d = call.in[0].shape[1], size = Token<float>::size(n, d);
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    Token<float> token(row_buffer(call, size, 1, thread, 0), n, d);
    for (int64_t r = begin; r < end; ++r) {
      copy_row(call.in[0], r, d, token.q);
      for (int64_t i = 0; i < n; ++i) copy_row(call.in[static_cast<size_t>(1 + i)], r, d, token.x + i * d);
      token.weigh();
      write_row(call.out[0], r, d, token.y);
    }
  });
}

void run_grad(const Call& call) noexcept {
  const int64_t n = std::ssize(call.in) - 2, d = call.in[0].shape[1], size = Token<float>::size(n, d);
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    Token<float> token(row_buffer(call, size, 1, thread, 0), n, d);
    for (int64_t r = begin; r < end; ++r) {
      copy_row(call.in[0], r, d, token.dy);
      copy_row(call.in[1], r, d, token.q);
      for (int64_t i = 0; i < n; ++i) copy_row(call.in[static_cast<size_t>(2 + i)], r, d, token.x + i * d);
      token.weigh();
      token.differentiate();
      if (call.out[0]) write_row(call.out[0], r, d, token.y);
      for (int64_t i = 0; i < n; ++i)
        if (const Operand& dx = call.out[static_cast<size_t>(1 + i)]) write_row(dx, r, d, token.dx + i * d);
    }
  });
}

// Without what the kernel shares with its gradient.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = std::ssize(call.in) - 1, d = call.in[0].shape[1];
  for (int64_t at = 0; at < call.in[0].shape.count(); at += d) {
    const auto product = [&](int64_t i, int64_t j) {
      double sum = 0;
      for (int64_t c = at; c < at + d; ++c)
        sum += call.in[static_cast<size_t>(i)][c] * call.in[static_cast<size_t>(j)][c];
      return sum;
    };
    std::vector<double> v;
    double total = kEpsilon;
    for (int64_t i = 1; i <= n; ++i) {
      double redundancy = 0;
      for (int64_t j = 1; j <= n; ++j)
        redundancy += std::max(0.0, product(i, j) / std::sqrt(product(i, i) * product(j, j)));
      v.push_back(std::max(0.0, product(0, i)) / redundancy);
      total += v.back();
    }
    for (int64_t c = at; c < at + d; ++c) {
      call.out[0][c] = 0;
      for (int64_t i = 1; i <= n; ++i)
        call.out[0][c] += v[static_cast<size_t>(i - 1)] / total * call.in[static_cast<size_t>(i)][c];
    }
  }
}

[[gnu::cold]] void reference_grad(const ReferenceCall& call) {
  const int64_t n = std::ssize(call.in) - 2, d = call.in[0].shape[1];
  std::vector<double> memory(static_cast<size_t>(Token<double>::size(n, d)));
  Token<double> token(memory.data(), n, d);
  for (int64_t at = 0; at < call.in[0].shape.count(); at += d) {
    for (int64_t c = 0; c < d; ++c) {
      token.dy[c] = call.in[0][at + c], token.q[c] = call.in[1][at + c];
      for (int64_t i = 0; i < n; ++i) token.x[i * d + c] = call.in[static_cast<size_t>(2 + i)][at + c];
    }
    token.weigh();
    token.differentiate();
    for (int64_t i = 0; i <= n; ++i)
      for (int64_t c = 0; call.out[static_cast<size_t>(i)] && c < d; ++c)
        call.out[static_cast<size_t>(i)][at + c] = i == 0 ? token.y[c] : token.dx[(i - 1) * d + c];
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  std::vector<ValueId> in{backward.gradient_of(node.out[0])};
  if (in[0] == kNone) return {};
  const auto wanted = std::make_unique<bool[]>(node.in.size());
  for (size_t i = 0; i < node.in.size(); ++i)
    in.push_back(backward.saved(node.in[i])), wanted[i] = backward.wanted(node.in[i]);
  const auto out = backward.graph().emit_all(kWeighLayersGrad, {}, in, backward.name(node.out[0]) + ".weighed",
                                             {wanted.get(), node.in.size()});
  for (size_t i = 0; i < out.size(); ++i)
    if (wanted[i]) backward.add(node.in[i], out[i]);
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  std::vector<ValueId> in = node.in;
  for (ValueId operand : node.in) in.push_back(tangents.of(operand));
  tangents.set(node.out[0], tangents.graph().emit(kWeighLayersTangent, {}, in, tangents.name(node.out[0])));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type rows{{5, 9}}, half{{4, 16}, &kBf16};
  return {{{}, {rows, rows, rows, rows}}, {{}, {half, half, half}}, {{}, {rows, rows}}};
}

[[gnu::cold]] std::vector<Sample> samples_grad() {
  const Type rows{{5, 9}}, half{{4, 16}, &kBf16};
  return {{{}, {rows, rows, rows, rows, rows}}, {{}, {half, half, half, half}}};
}

}  // namespace

const Op kWeighLayers = {.name = "weigh_layers",
                         .infer = infer,
                         .gradient = gradient,
                         .tangent = tangent,
                         .workspace = workspace<1>,
                         .cost = pointwise_cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples};

const Op kWeighLayersGrad = {.name = "weigh_layers_grad",
                             .infer = infer_grad,
                             .workspace = workspace<2>,
                             .cost = pointwise_cost,
                             .reference = reference_grad,
                             .run = run_grad,
                             .samples = samples_grad};

}  // namespace thimble
