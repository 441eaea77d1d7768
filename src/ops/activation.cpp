// activation: y = f(gate) * up (gated FFN), or y = f(gate).
//
//   Paper     Shazeer 2020, arXiv:2002.05202 (gated); Hendrycks and Gimpel 2016, arXiv:1606.08415 (gelu)
//   Gradient  dgate = dy * up * f'(gate);  dup = dy * f(gate)
//   Keeps     gate, up (y is cheap to recompute)
#include <cmath>
#include <numbers>

#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

Activation kind_of(const std::any& attributes) { return std::any_cast<ActivationAttributes>(&attributes)->kind; }

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("activation", in, 2));
  CHECK_OK(expect_rank("activation", "gate", in[0], 2));
  CHECK_OK(expect_run("activation", "gate", in[0]));
  if (!absent(in[1])) {
    CHECK_OK(expect_shape("activation", "up", in[1], in[0].shape));
    CHECK_OK(expect_run("activation", "up", in[1]));
  }
  return std::vector{in[0]};
}

constexpr int64_t kPiece = 512;  // elements, which stay in the first-level cache
constexpr int kBuffers = 5;

int64_t workspace(const std::any&, std::span<const Type>, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(kPiece, kBuffers, threads);
}

// piece(at, count, buffer) for pieces of `total` elements; buffer(i) is one of kBuffers for a piece as f32.
template <class Piece>
void by_pieces(const Call& call, int64_t total, const Piece& piece) noexcept {
  call.run.threads.split(total, kPiece, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, kPiece, kBuffers, thread, i); };
    for (int64_t at = begin; at < end; at += kPiece) piece(at, std::min(kPiece, end - at), buffer);
  });
}

void run(const Call& call) noexcept {
  by_pieces(call, call.in[0].shape.count(), [&](int64_t at, int64_t n, const auto& buffer) {
    const float* const up = call.in[1] ? read_run(call.in[1], at, n, buffer(1)) : nullptr;
    activate(call.as<ActivationAttributes>().kind, read_run(call.in[0], at, n, buffer(0)), up, buffer(2), n);
    write_run(call.out[0], at, n, buffer(2));
  });
}

double value(Activation kind, double x) {
  const double t = std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x));
  switch (kind) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + t);
    case Activation::relu:
      return x <= 0 ? 0 : x;
    case Activation::relu_squared:
      return x <= 0 ? 0 : x * x;
  }
  return 0;
}

double slope(Activation kind, double x) {
  const double s = 1 / (1 + std::exp(-x)), c = std::sqrt(2 / std::numbers::pi);
  const double t = std::tanh(c * (x + 0.044715 * x * x * x));
  switch (kind) {
    case Activation::silu:
      return s * (1 + x * (1 - s));
    case Activation::gelu:
      return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) +
             x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
    case Activation::gelu_tanh:
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    case Activation::relu:
      return x > 0 ? 1 : 0;
    case Activation::relu_squared:
      return x > 0 ? 2 * x : 0;
  }
  return 0;
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i)
    call.out[0][i] = value(kind_of(call.attributes), call.in[0][i]) * (call.in[1] ? call.in[1][i] : 1.0);
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  const ValueId gate = node.in[0], up = node.in[1];
  if (dy == kNone) return {};
  const bool wanted[2] = {true, up != kNone};
  const auto out = backward.graph().emit_all(
      kActivationGrad, node.attributes, {dy, backward.saved(gate), backward.saved(up)}, backward.name(gate), wanted);
  if (backward.wanted(gate)) backward.add(gate, out[0]);
  if (backward.wanted(up)) backward.add(up, out[1]);
  return {};
}

// y' = gate' up f'(gate) + f(gate) up': the first is the gradient's operation, the second this one.
Result<void> tangent(Tangents& tangents, const Node& node) {
  Graph& g = tangents.graph();
  const ValueId gate = node.in[0], up = node.in[1], dgate = tangents.of(gate), dup = tangents.of(up);
  const std::string name = tangents.name(node.out[0]);
  ValueId by_gate = kNone, by_up = kNone;
  if (dgate != kNone) {
    const bool wanted[2] = {true, false};
    by_gate = g.emit_all(kActivationGrad, node.attributes, {dgate, gate, up}, name + ".gate", wanted)[0];
  }
  if (dup != kNone) by_up = g.emit(kActivation, node.attributes, {gate, dup}, name + ".up");
  tangents.set(node.out[0], tangents.sum(by_gate, by_up, name));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  std::vector<Sample> out;
  for (Activation kind :
       {Activation::silu, Activation::gelu, Activation::gelu_tanh, Activation::relu, Activation::relu_squared}) {
    out.push_back({ActivationAttributes{kind}, {Type{{3, 17}}, Type{{3, 17}}}});
    out.push_back({ActivationAttributes{kind}, {Type{{5, 33}, &kBf16}, none}});
  }
  out.push_back({ActivationAttributes{Activation::silu}, {Type{{4, 301}, &kBf16}, Type{{4, 301}, &kBf16}}});
  return out;
}

Result<std::vector<Type>> infer_grad(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("activation_grad", in, 3));
  CHECK_OK(expect_shape("activation_grad", "dy", in[0], in[1].shape));
  if (!absent(in[2])) CHECK_OK(expect_shape("activation_grad", "up", in[2], in[1].shape));
  for (const Type& type : in)
    if (!absent(type)) CHECK_OK(expect_run("activation_grad", "operand", type));
  return std::vector{in[1], in[1]};
}

void run_grad(const Call& call) noexcept {
  by_pieces(call, call.in[0].shape.count(), [&](int64_t at, int64_t n, const auto& buffer) {
    const float* const up = call.in[2] ? read_run(call.in[2], at, n, buffer(2)) : nullptr;
    activate_gradient(call.as<ActivationAttributes>().kind, read_run(call.in[0], at, n, buffer(0)),
                      read_run(call.in[1], at, n, buffer(1)), up, buffer(3), buffer(4), n);
    write_run(call.out[0], at, n, buffer(3));
    if (call.out[1]) write_run(call.out[1], at, n, buffer(4));
  });
}

[[gnu::cold]] void reference_grad(const ReferenceCall& call) {
  const Activation kind = kind_of(call.attributes);
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) {
    const double dy = call.in[0][i], gate = call.in[1][i], up = call.in[2] ? call.in[2][i] : 1.0;
    call.out[0][i] = dy * up * slope(kind, gate);
    if (call.out[1]) call.out[1][i] = dy * value(kind, gate);
  }
}

[[gnu::cold]] std::vector<Sample> samples_grad() {
  return {{ActivationAttributes{Activation::silu}, {Type{{3, 17}}, Type{{3, 17}}, Type{{3, 17}}}},
          {ActivationAttributes{Activation::gelu_tanh},
           {Type{{5, 33}, &kBf16}, Type{{5, 33}, &kBf16}, Type{{5, 33}, &kBf16}}},
          {ActivationAttributes{Activation::silu},
           {Type{{4, 301}, &kBf16}, Type{{4, 301}, &kBf16}, Type{{4, 301}, &kBf16}}}};
}

std::string text(const std::any& attributes) {
  constexpr const char* kNames[] = {"silu", "gelu", "gelu_tanh", "relu", "relu_squared"};
  return kNames[static_cast<int>(kind_of(attributes))];
}

constexpr InPlace kOverEither[] = {{0, 0, false}, {0, 1, false}};
constexpr InPlace kOverInputs[] = {{0, 1, false}, {1, 2, false}, {0, 0, false}};

}  // namespace

const Op kActivation = {.name = "activation",
                        .infer = infer,
                        .text = text,
                        .gradient = gradient,
                        .tangent = tangent,
                        .workspace = workspace,
                        .cost = pointwise_cost,
                        .reference = reference,
                        .run = run,
                        .samples = samples,
                        .in_place = kOverEither};
const Op kActivationGrad = {.name = "activation_grad",
                            .infer = infer_grad,
                            .text = text,
                            .workspace = workspace,
                            .cost = pointwise_cost,
                            .reference = reference_grad,
                            .run = run_grad,
                            .samples = samples_grad,
                            .in_place = kOverInputs};

}  // namespace thimble
