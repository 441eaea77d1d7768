// layer_norm: y = (x - mean) / sqrt(variance + epsilon) * gain + bias.
//
//   Paper     Ba et al. 2016, arXiv:1607.06450
//   Gradient  with h = (x - mean) * r, r = 1/sqrt(variance + epsilon), u = gain*dy:
//             dx = r * (u - mean(u) - h * mean(u*h));  dgain = sum over rows of dy*h;  dbias = sum over rows of dy
//   Keeps     x
#include <cmath>

#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

double epsilon_of(const std::any& attributes) { return std::any_cast<NormAttributes>(&attributes)->epsilon; }

std::string text(const std::any& any) { return fmt::format("{{epsilon {}}}", epsilon_of(any)); }

// h = (x - mean) * r; returns r.
float standardise(const float* x, float* h, int64_t n, double epsilon) noexcept {
  const float mean = sum(x, n) / static_cast<float>(n);
  for (int64_t j = 0; j < n; ++j) h[j] = x[j] - mean;
  const double variance = static_cast<double>(dot(h, h, n)) / static_cast<double>(n);
  const float r = static_cast<float>(1.0 / std::sqrt(variance + epsilon));
  scale(h, r, n);
  return r;
}

double standardise(const ReferenceOperand& x, int64_t row, int64_t n, double epsilon, std::vector<double>& h) {
  double mean = 0, variance = 0;
  for (int64_t j = 0; j < n; ++j) mean += x[row * n + j] / static_cast<double>(n);
  for (int64_t j = 0; j < n; ++j) variance += std::pow(x[row * n + j] - mean, 2) / static_cast<double>(n);
  const double r = 1 / std::sqrt(variance + epsilon);
  h.resize(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) h[static_cast<size_t>(j)] = (x[row * n + j] - mean) * r;
  return r;
}

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("layer_norm", in, 3));
  CHECK_OK(expect_rank("layer_norm", "x", in[0], 2));
  CHECK_OK(expect_shape("layer_norm", "gain", in[1], {in[0].shape[1]}));
  CHECK_OK(expect_f32("layer_norm", "gain", in[1]));
  CHECK_OK(expect_shape("layer_norm", "bias", in[2], {in[0].shape[1]}));
  CHECK_OK(expect_f32("layer_norm", "bias", in[2]));
  return std::vector{in[0]};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[1].shape.columns(), 4, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1];
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const y = row_buffer(call, n, 4, thread, 1);
    for (int64_t i = begin; i < end; ++i) {
      standardise(read_row(call.in[0], i, n, row_buffer(call, n, 4, thread, 0)), y, n, epsilon_of(call.attributes));
      multiply(y, call.in[1].as<const float>(), n);
      add_scaled(y, call.in[2].as<const float>(), 1, n);
      write_row(call.out[0], i, n, y);
    }
  });
}

void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1];
  std::vector<double> h;
  for (int64_t i = 0; i < call.in[0].shape[0]; ++i) {
    standardise(call.in[0], i, n, epsilon_of(call.attributes), h);
    for (int64_t j = 0; j < n; ++j) call.out[0][i * n + j] = h[static_cast<size_t>(j)] * call.in[1][j] + call.in[2][j];
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  Graph& graph = backward.graph();
  const ValueId dy = backward.gradient_of(node.out[0]);
  const ValueId x = node.in[0], gain = node.in[1], bias = node.in[2];
  if (dy == kNone) return {};
  const ValueId kept = backward.saved(x);
  if (backward.wanted(gain)) backward.accumulate(gain, kLayerNormDgain, node.attributes, {dy, kept}, ".sum");
  if (backward.wanted(bias)) backward.accumulate(bias, kColumnSum, {}, {dy}, ".sum");
  if (!backward.wanted(x)) return {};
  const ValueId addend = backward.gradient_of(x);
  backward.add(x, graph.emit(kLayerNormDx, node.attributes, {dy, kept, gain, addend}, backward.name(x)));
  return {};
}

std::vector<Sample> samples() {
  return {{NormAttributes{1e-5}, {Type{{5, 7}}, Type{{7}}, Type{{7}}}},
          {NormAttributes{1e-5}, {Type{{9, 66}, &kBf16}, Type{{66}}, Type{{66}}}}};
}

Result<std::vector<Type>> infer_dx(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("layer_norm_dx", in, 4));
  CHECK_OK(expect_rank("layer_norm_dx", "x", in[1], 2));
  CHECK_OK(expect_shape("layer_norm_dx", "dy", in[0], in[1].shape));
  CHECK_OK(expect_shape("layer_norm_dx", "gain", in[2], {in[1].shape.columns()}));
  CHECK_OK(expect_f32("layer_norm_dx", "gain", in[2]));
  if (!absent(in[3])) CHECK_OK(expect_shape("layer_norm_dx", "addend", in[3], in[1].shape));
  return std::vector{in[1]};
}

void run_dx(const Call& call) noexcept {
  const int64_t n = call.in[1].shape[1];
  call.run.threads.split(call.in[1].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, n, 4, thread, i); };
    float* const h = buffer(1);
    float* const dx = buffer(2);
    for (int64_t i = begin; i < end; ++i) {
      const float r = standardise(read_row(call.in[1], i, n, buffer(0)), h, n, epsilon_of(call.attributes));
      const float* const dy = read_row(call.in[0], i, n, buffer(0));
      std::copy(dy, dy + n, dx);
      multiply(dx, call.in[2].as<const float>(), n);
      const float mean = sum(dx, n) / static_cast<float>(n);
      const float projection = dot(dx, h, n) / static_cast<float>(n);
      for (int64_t j = 0; j < n; ++j) dx[j] = r * (dx[j] - mean - h[j] * projection);
      if (call.in[3]) add_scaled(dx, read_row(call.in[3], i, n, buffer(3)), 1, n);
      write_row(call.out[0], i, n, dx);
    }
  });
}

void reference_dx(const ReferenceCall& call) {
  const int64_t n = call.in[1].shape[1];
  std::vector<double> h;
  for (int64_t i = 0; i < call.in[1].shape[0]; ++i) {
    const double r = standardise(call.in[1], i, n, epsilon_of(call.attributes), h);
    double mean = 0, projection = 0;
    for (int64_t j = 0; j < n; ++j) {
      const double u = call.in[2][j] * call.in[0][i * n + j] / static_cast<double>(n);
      mean += u;
      projection += u * h[static_cast<size_t>(j)];
    }
    for (int64_t j = 0; j < n; ++j)
      call.out[0][i * n + j] =
          r * (call.in[2][j] * call.in[0][i * n + j] - mean - h[static_cast<size_t>(j)] * projection) +
          (call.in[3] ? call.in[3][i * n + j] : 0.0);
  }
}

std::vector<Sample> samples_dx() {
  return {{NormAttributes{1e-5}, {Type{{5, 7}}, Type{{5, 7}}, Type{{7}}, Type{.codec = nullptr}}},
          {NormAttributes{1e-5}, {Type{{9, 66}, &kBf16}, Type{{9, 66}, &kBf16}, Type{{66}}, Type{{9, 66}, &kBf16}}}};
}

Result<std::vector<Type>> infer_dgain(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("layer_norm_dgain", in, 3));
  CHECK_OK(expect_rank("layer_norm_dgain", "x", in[2], 2));
  CHECK_OK(expect_shape("layer_norm_dgain", "dy", in[1], in[2].shape));
  CHECK_OK(expect_shape("layer_norm_dgain", "accumulator", in[0], {in[2].shape[1]}));
  CHECK_OK(expect_f32("layer_norm_dgain", "accumulator", in[0]));
  return std::vector{Type{in[0].shape, &kF32}};
}

void run_dgain(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], n = call.in[1].shape[1];
  const auto buffer = [&](int i) { return row_buffer(call, n, 4, 0, i); };
  float* const h = buffer(2);
  float* const partial = buffer(3);
  for (int64_t row = 0; row < rows; row += kGranule) {
    std::fill(partial, partial + n, 0.0f);
    for (int64_t i = row; i < std::min(rows, row + kGranule); ++i) {
      standardise(read_row(call.in[2], i, n, buffer(0)), h, n, epsilon_of(call.attributes));
      multiply(h, read_row(call.in[1], i, n, buffer(1)), n);
      add_scaled(partial, h, 1, n);
    }
    add_scaled(call.out[0].as<float>(), partial, 1, n);
  }
}

void reference_dgain(const ReferenceCall& call) {
  const int64_t n = call.in[1].shape[1];
  std::vector<double> h;
  for (int64_t j = 0; j < n; ++j) call.out[0][j] = call.in[0][j];
  for (int64_t i = 0; i < call.in[1].shape[0]; ++i) {
    standardise(call.in[2], i, n, epsilon_of(call.attributes), h);
    for (int64_t j = 0; j < n; ++j) call.out[0][j] += call.in[1][i * n + j] * h[static_cast<size_t>(j)];
  }
}

std::vector<Sample> samples_dgain() {
  return {{NormAttributes{1e-5}, {Type{{7}}, Type{{5, 7}}, Type{{5, 7}}}},
          {NormAttributes{1e-5}, {Type{{66}}, Type{{600, 66}, &kBf16}, Type{{600, 66}, &kBf16}}}};
}

constexpr InPlace kOverX[] = {{0, 0, false}};
constexpr InPlace kOverDy[] = {{0, 0, false}, {0, 3, false}};
constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kLayerNorm = {.name = "layer_norm",
                       .infer = infer,
                       .text = text,
                       .gradient = gradient,
                       .workspace = workspace,
                       .cost = pointwise_cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples,
                       .in_place = kOverX};
const Op kLayerNormDx = {.name = "layer_norm_dx",
                         .infer = infer_dx,
                         .text = text,
                         .workspace = workspace,
                         .cost = pointwise_cost,
                         .reference = reference_dx,
                         .run = run_dx,
                         .samples = samples_dx,
                         .in_place = kOverDy};
const Op kLayerNormDgain = {.name = "layer_norm_dgain",
                            .infer = infer_dgain,
                            .text = text,
                            .workspace = workspace,
                            .cost = pointwise_cost,
                            .reference = reference_dgain,
                            .run = run_dgain,
                            .samples = samples_dgain,
                            .in_place = kAccumulates,
                            .alone = true};

}  // namespace thimble
