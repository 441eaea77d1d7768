// layer_norm: y = (x - mean) / sqrt(variance + epsilon) * (offset + gain) + bias, over groups of columns (a head, or
// the whole row).
//
//   Paper     Ba et al. 2016, arXiv:1607.06450
//   Gradient  with h = (x - mean) * r, r = 1/sqrt(variance + epsilon), u = (offset + gain)*dy:
//             dx = r * (u - mean(u) - h * mean(u*h));  dgain = sum over rows of dy*h;  dbias = sum over rows of dy
//   Keeps     x
#include <cmath>

#include "ops/backward.h"
#include "ops/norm_parts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

double epsilon_of(const std::any& attributes) { return std::any_cast<NormAttributes>(&attributes)->epsilon; }

// h = (x - mean) * r; returns r.
float standardise(const float* x, float* h, int64_t n, double epsilon) noexcept {
  const float mean = sum(x, n) / static_cast<float>(n);
  for (int64_t j = 0; j < n; ++j) h[j] = x[j] - mean;
  const double variance = static_cast<double>(dot(h, h, n)) / static_cast<double>(n);
  const float r = static_cast<float>(1.0 / std::sqrt(variance + epsilon));
  scale(h, r, n);
  return r;
}

// Of the group of n elements from `at` on.
double standardise(const ReferenceOperand& x, int64_t at, int64_t n, double epsilon, std::vector<double>& h) {
  double mean = 0, variance = 0;
  for (int64_t j = 0; j < n; ++j) mean += x[at + j] / static_cast<double>(n);
  for (int64_t j = 0; j < n; ++j) variance += std::pow(x[at + j] - mean, 2) / static_cast<double>(n);
  const double r = 1 / std::sqrt(variance + epsilon);
  h.resize(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) h[static_cast<size_t>(j)] = (x[at + j] - mean) * r;
  return r;
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("layer_norm", in, 3));
  CHECK_OK(expect_groups("layer_norm", any, in[0], in[1]));
  if (!absent(in[2])) {
    CHECK_OK(expect_shape("layer_norm", "bias", in[2], absent(in[1]) ? Shape{in[0].shape[1]} : in[1].shape));
    CHECK_OK(expect_f32("layer_norm", "bias", in[2]));
  }
  return std::vector{in[0]};
}

constexpr int kBuffers = 5;
// `x` is the operand that has the row's columns.
template <int x>
int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[x].shape.columns(), kBuffers, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1];
  const NormGroups groups(call.attributes, call.in[1].shape, n);
  const int64_t width = groups.width;
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, n, kBuffers, thread, i); };
    const float* const gain = groups.gains(call.in[1], buffer(4));
    float* const y = buffer(1);
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, n, buffer(0));
      for (int64_t g = 0; g < n; g += width) {
        standardise(x + g, y + g, width, epsilon_of(call.attributes));
        if (gain) multiply(y + g, gain + g % groups.gain_count, width);
        if (call.in[2]) add_scaled(y + g, call.in[2].as<const float>() + g % groups.gain_count, 1, width);
      }
      write_row(call.out[0], i, n, y);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const NormGroups groups(call.attributes, call.in[1].shape, call.in[0].shape[1]);
  std::vector<double> h;
  for (int64_t g = 0; g < call.in[0].shape.count(); g += groups.width) {
    standardise(call.in[0], g, groups.width, epsilon_of(call.attributes), h);
    for (int64_t i = g; i < g + groups.width; ++i)
      call.out[0][i] = h[static_cast<size_t>(i - g)] * groups.gain(call.in[1], i) +
                       (call.in[2] ? call.in[2][i % groups.gain_count] : 0.0);
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

[[gnu::cold]] std::vector<Sample> samples() {
  return {{NormAttributes{1e-5}, {Type{{5, 7}}, Type{{7}}, Type{{7}}}},
          {NormAttributes{1e-5}, {Type{{9, 66}, &kBf16}, Type{{66}}, Type{{66}}}},
          {NormAttributes{1e-5}, {Type{{5, 7}}, Type{.codec = nullptr}, Type{.codec = nullptr}}},
          {NormAttributes{1e-5, 1}, {Type{{5, 7}}, Type{{7}}, Type{{7}}}},
          {NormAttributes{1e-5, 0, 4}, {Type{{5, 16}}, Type{{8}}, Type{.codec = nullptr}}}};
}

Result<std::vector<Type>> infer_dx(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("layer_norm_dx", in, 4));
  CHECK_OK(expect_groups("layer_norm_dx", any, in[1], in[2]));
  CHECK_OK(expect_shape("layer_norm_dx", "dy", in[0], in[1].shape));
  if (!absent(in[3])) CHECK_OK(expect_shape("layer_norm_dx", "addend", in[3], in[1].shape));
  return std::vector{in[1]};
}

void run_dx(const Call& call) noexcept {
  const int64_t n = call.in[1].shape[1];
  const NormGroups groups(call.attributes, call.in[2].shape, n);
  const int64_t width = groups.width;
  call.run.threads.split(call.in[1].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, n, kBuffers, thread, i); };
    const float* const gain = groups.gains(call.in[2], buffer(4));
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[1], i, n, buffer(0));
      const float* const dy = read_row(call.in[0], i, n, buffer(3));
      float* const dx = buffer(2);
      for (int64_t g = 0; g < n; g += width) {
        float* const h = buffer(1);
        float* const u = dx + g;
        const float r = standardise(x + g, h, width, epsilon_of(call.attributes));
        std::copy(dy + g, dy + g + width, u);
        if (gain) multiply(u, gain + g % groups.gain_count, width);
        const float mean = sum(u, width) / static_cast<float>(width);
        const float projection = dot(u, h, width) / static_cast<float>(width);
        for (int64_t j = 0; j < width; ++j) u[j] = r * (u[j] - mean - h[j] * projection);
      }
      if (call.in[3]) add_scaled(dx, read_row(call.in[3], i, n, buffer(3)), 1, n);
      write_row(call.out[0], i, n, dx);
    }
  });
}

[[gnu::cold]] void reference_dx(const ReferenceCall& call) {
  const NormGroups groups(call.attributes, call.in[2].shape, call.in[1].shape[1]);
  std::vector<double> h;
  for (int64_t g = 0; g < call.in[1].shape.count(); g += groups.width) {
    const double r = standardise(call.in[1], g, groups.width, epsilon_of(call.attributes), h);
    double mean = 0, projection = 0;
    for (int64_t i = g; i < g + groups.width; ++i) {
      const double u = groups.gain(call.in[2], i) * call.in[0][i] / static_cast<double>(groups.width);
      mean += u;
      projection += u * h[static_cast<size_t>(i - g)];
    }
    for (int64_t i = g; i < g + groups.width; ++i)
      call.out[0][i] =
          r * (groups.gain(call.in[2], i) * call.in[0][i] - mean - h[static_cast<size_t>(i - g)] * projection) +
          (call.in[3] ? call.in[3][i] : 0.0);
  }
}

[[gnu::cold]] std::vector<Sample> samples_dx() {
  return {{NormAttributes{1e-5}, {Type{{5, 7}}, Type{{5, 7}}, Type{{7}}, Type{.codec = nullptr}}},
          {NormAttributes{1e-5}, {Type{{9, 66}, &kBf16}, Type{{9, 66}, &kBf16}, Type{{66}}, Type{{9, 66}, &kBf16}}},
          {NormAttributes{1e-5}, {Type{{5, 7}}, Type{{5, 7}}, Type{.codec = nullptr}, Type{.codec = nullptr}}},
          {NormAttributes{1e-5, 1, 4}, {Type{{5, 16}}, Type{{5, 16}}, Type{{8}}, Type{{5, 16}}}}};
}

Result<std::vector<Type>> infer_dgain(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("layer_norm_dgain", in, 3));
  CHECK_OK(expect_groups("layer_norm_dgain", any, in[2], in[0]));
  CHECK_OK(expect_shape("layer_norm_dgain", "dy", in[1], in[2].shape));
  return std::vector{Type{in[0].shape, &kF32}};
}

void run_dgain(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], n = call.in[1].shape[1];
  const NormGroups groups(call.attributes, call.in[0].shape, n);
  const auto buffer = [&](int i) { return row_buffer(call, n, kBuffers, 0, i); };
  float* const h = buffer(2);
  float* const partial = buffer(3);
  for (int64_t row = 0; row < rows; row += kGranule) {
    std::fill(partial, partial + groups.gain_count, 0.0f);
    for (int64_t i = row; i < std::min(rows, row + kGranule); ++i) {
      const float* const x = read_row(call.in[2], i, n, buffer(0));
      for (int64_t g = 0; g < n; g += groups.width)
        standardise(x + g, h + g, groups.width, epsilon_of(call.attributes));
      multiply(h, read_row(call.in[1], i, n, buffer(1)), n);
      for (int64_t g = 0; g < n; g += groups.gain_count) add_scaled(partial, h + g, 1, groups.gain_count);
    }
    add_scaled(call.out[0].as<float>(), partial, 1, groups.gain_count);
  }
}

[[gnu::cold]] void reference_dgain(const ReferenceCall& call) {
  const NormGroups groups(call.attributes, call.in[0].shape, call.in[1].shape[1]);
  std::vector<double> h;
  for (int64_t j = 0; j < groups.gain_count; ++j) call.out[0][j] = call.in[0][j];
  for (int64_t g = 0; g < call.in[1].shape.count(); g += groups.width) {
    standardise(call.in[2], g, groups.width, epsilon_of(call.attributes), h);
    for (int64_t i = g; i < g + groups.width; ++i)
      call.out[0][i % groups.gain_count] += call.in[1][i] * h[static_cast<size_t>(i - g)];
  }
}

[[gnu::cold]] std::vector<Sample> samples_dgain() {
  return {{NormAttributes{1e-5}, {Type{{7}}, Type{{5, 7}}, Type{{5, 7}}}},
          {NormAttributes{1e-5}, {Type{{66}}, Type{{600, 66}, &kBf16}, Type{{600, 66}, &kBf16}}},
          {NormAttributes{1e-5, 1, 4}, {Type{{8}}, Type{{5, 16}}, Type{{5, 16}}}}};
}

constexpr InPlace kOverX[] = {{0, 0, false}};
constexpr InPlace kOverDy[] = {{0, 0, false}, {0, 3, false}};
constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kLayerNorm = {.name = "layer_norm",
                       .infer = infer,
                       .text = norm_text,
                       .gradient = gradient,
                       .tangent = [](Tangents& t, const Node& node) { return norm_tangent(t, node, true); },
                       .workspace = workspace<0>,
                       .cost = pointwise_cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples,
                       .in_place = kOverX};
const Op kLayerNormDx = {.name = "layer_norm_dx",
                         .infer = infer_dx,
                         .text = norm_text,
                         .workspace = workspace<1>,
                         .cost = pointwise_cost,
                         .reference = reference_dx,
                         .run = run_dx,
                         .samples = samples_dx,
                         .in_place = kOverDy};
const Op kLayerNormDgain = {.name = "layer_norm_dgain",
                            .infer = infer_dgain,
                            .text = norm_text,
                            .workspace = workspace<2>,
                            .cost = pointwise_cost,
                            .reference = reference_dgain,
                            .run = run_dgain,
                            .samples = samples_dgain,
                            .in_place = kAccumulates,
                            .alone = true};

}  // namespace thimble
