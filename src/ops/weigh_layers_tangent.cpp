// weigh_layers_tangent: the derivative of weigh_layers along a direction, token by token.
//
//   with the names of weigh_layers.cpp, u = x / |x|:
//     p'_i = q'.x_i + q.x'_i;  cos'_ij = u'_i.u_j + u_i.u'_j, u'_i.u_j = (x'_i.u_j - cos_ij x'_i.u_i) / |x_i|
//     r'_i = sum over j of cos'_ij where cos_ij > 0;  v'_i = (p'_i - v_i r'_i) / r_i, without p'_i where p_i <= 0
//     y'   = sum over i of (v'_i - a_i sum of v') / V x_i + a_i x'_i
#include "ops/shape_rule.h"
#include "ops/weigh_layers.h"
#include "ops/weigh_layers_parts.h"

namespace thimble {
namespace {

using namespace weighing;

// Layers, behind the query; of the query and of them the derivatives come behind.
int64_t layers_of(int64_t operands) { return operands / 2 - 1; }

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  constexpr const char* kName = "weigh_layers_tangent";
  if (in.size() < 4 || in.size() % 2 != 0)
    return fail(ErrorCode::shape, "{}: expected a query, layers, and as many derivatives, found {} operands", kName,
                in.size());
  CHECK_OK(expect_rank(kName, "the query", in[0], 2));
  for (size_t i = 0; i < in.size(); ++i) {
    const bool of_direction = i >= in.size() / 2;
    if (of_direction && absent(in[i])) continue;
    CHECK_OK(expect_shape(kName, of_direction ? "a derivative" : "a layer", in[i], in[0].shape));
    CHECK_OK(expect_elements(kName, of_direction ? "a derivative" : "a layer", in[i]));
  }
  return std::vector{in[0]};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(Token<float>::size(layers_of(std::ssize(in)), in[0].shape[1]), 1, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = layers_of(std::ssize(call.in)), d = call.in[0].shape[1], size = Token<float>::size(n, d);
  const auto load = [&](int64_t operand, int64_t r, float* to) {
    const Operand& from = call.in[static_cast<size_t>(operand)];
    if (from)
      copy_row(from, r, d, to);
    else
      std::fill_n(to, d, 0.0f);
  };
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    Token<float> token(row_buffer(call, size, 1, thread, 0), n, d);
    for (int64_t r = begin; r < end; ++r) {
      load(0, r, token.q), load(n + 1, r, token.dy);
      for (int64_t i = 0; i < n; ++i) load(1 + i, r, token.x + i * d), load(n + 2 + i, r, token.dx + i * d);
      token.weigh();
      token.move();
      write_row(call.out[0], r, d, token.y);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = layers_of(std::ssize(call.in)), d = call.in[0].shape[1];
  std::vector<double> memory(static_cast<size_t>(Token<double>::size(n, d)));
  Token<double> token(memory.data(), n, d);
  const auto load = [&](int64_t operand, int64_t at, double* to) {
    const ReferenceOperand& from = call.in[static_cast<size_t>(operand)];
    for (int64_t c = 0; c < d; ++c) to[c] = from ? from[at + c] : 0;
  };
  for (int64_t at = 0; at < call.in[0].shape.count(); at += d) {
    load(0, at, token.q), load(n + 1, at, token.dy);
    for (int64_t i = 0; i < n; ++i) load(1 + i, at, token.x + i * d), load(n + 2 + i, at, token.dx + i * d);
    token.weigh();
    token.move();
    for (int64_t c = 0; c < d; ++c) call.out[0][at + c] = token.y[c];
  }
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type rows{{5, 9}}, half{{4, 16}, &kBf16}, none{.codec = nullptr};
  return {{{}, {rows, rows, rows, rows, rows, rows, rows, rows}},
          {{}, {rows, rows, rows, none, rows, none}},
          {{}, {half, half, half, half, half, half}}};
}

}  // namespace

const Op kWeighLayersTangent = {.name = "weigh_layers_tangent",
                                .infer = infer,
                                .workspace = workspace,
                                .cost = pointwise_cost,
                                .reference = reference,
                                .run = run,
                                .samples = samples};

}  // namespace thimble
