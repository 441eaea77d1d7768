// unit_norm: what a norm makes without gain and bias, h = (x - mean) r, and r = 1 / sqrt(variance + epsilon); without
// the mean, h = x r, r = 1 / sqrt(mean(x^2) + epsilon). Over groups of columns (keep.h).
//
//   unit_norm_dx     with u = (offset + gain) dy: dx = r (u - mean(u) - h mean(u h)), mean(u) where h was centred;
//                    + addend
//   unit_norm_dgain  accumulator + sum over rows of dy h, in granules of 512 rows
#include <cmath>

#include "ops/keep.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

const UnitNormAttributes& of(const std::any& attributes) { return *std::any_cast<UnitNormAttributes>(&attributes); }

Result<void> expect_groups(std::string_view op, const std::any& any, const Type& x) {
  CHECK_OK(expect_rank(op, "x", x, 2));
  if (const int64_t group = of(any).group; group > 0 && x.shape[1] % group == 0) return {};
  return fail(ErrorCode::shape, "{}: rows of {} are not whole groups of {}", op, x.shape[1], of(any).group);
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("unit_norm", in, 1));
  CHECK_OK(expect_groups("unit_norm", any, in[0]));
  return std::vector{in[0], Type{{in[0].shape[0], in[0].shape[1] / of(any).group}, &kF32, in[0].extent}};
}

template <int x, int buffers>
int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[x].shape[1], buffers, threads);
}

// h over x [group]; returns r.
float unit(float* x, const UnitNormAttributes& a) noexcept {
  const auto n = static_cast<float>(a.group);
  if (a.centred) {
    const float mean = sum(x, a.group) / n;
    for (int64_t j = 0; j < a.group; ++j) x[j] -= mean;
  }
  const float r = static_cast<float>(
      1.0 / std::sqrt(static_cast<double>(dot(x, x, a.group)) / static_cast<double>(a.group) + a.epsilon));
  scale(x, r, a.group);
  return r;
}

void run(const Call& call) noexcept {
  const UnitNormAttributes& a = of(call.attributes);
  const int64_t columns = call.in[0].shape[1], groups = columns / a.group;
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const h = row_buffer(call, columns, 2, thread, 1);
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, columns, row_buffer(call, columns, 2, thread, 0));
      std::copy(x, x + columns, h);
      for (int64_t g = 0; g < groups; ++g) call.out[1].as<float>()[i * groups + g] = unit(h + g * a.group, a);
      write_row(call.out[0], i, columns, h);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const UnitNormAttributes& a = of(call.attributes);
  const auto n = static_cast<double>(a.group);
  for (int64_t g = 0; g < call.in[0].shape.count() / a.group; ++g) {
    double mean = 0, squares = 0;
    for (int64_t j = 0; j < a.group; ++j) mean += a.centred ? call.in[0][g * a.group + j] / n : 0;
    for (int64_t j = 0; j < a.group; ++j) squares += std::pow(call.in[0][g * a.group + j] - mean, 2) / n;
    call.out[1][g] = 1 / std::sqrt(squares + a.epsilon);
    for (int64_t j = g * a.group; j < (g + 1) * a.group; ++j) call.out[0][j] = (call.in[0][j] - mean) * call.out[1][g];
  }
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{UnitNormAttributes{.epsilon = 1e-5, .group = 7}, {Type{{5, 7}}}},
          {UnitNormAttributes{.epsilon = 1e-5, .group = 33, .centred = true}, {Type{{9, 66}, &kBf16}}}};
}

Result<std::vector<Type>> infer_dx(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("unit_norm_dx", in, 5));
  CHECK_OK(expect_groups("unit_norm_dx", any, in[1]));
  const int64_t rows = in[1].shape[0], columns = in[1].shape[1];
  CHECK_OK(expect_shape("unit_norm_dx", "dy", in[0], in[1].shape));
  CHECK_OK(expect_shape("unit_norm_dx", "r", in[2], {rows, columns / of(any).group}));
  CHECK_OK(expect_f32("unit_norm_dx", "r", in[2]));
  if (!absent(in[3])) CHECK_OK(expect_shape("unit_norm_dx", "gain", in[3], {columns}));
  CHECK_OK(expect_f32("unit_norm_dx", "gain", in[3]));
  if (!absent(in[4])) CHECK_OK(expect_shape("unit_norm_dx", "addend", in[4], in[1].shape));
  return std::vector{in[1]};
}

void run_dx(const Call& call) noexcept {
  const UnitNormAttributes& a = of(call.attributes);
  const int64_t columns = call.in[1].shape[1], groups = columns / a.group;
  const auto n = static_cast<float>(a.group);
  call.run.threads.split(call.in[1].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, columns, 4, thread, i); };
    float* const u = buffer(0);
    for (int64_t i = begin; i < end; ++i) {
      const float* const dy = read_row(call.in[0], i, columns, buffer(1));
      const float* const h = read_row(call.in[1], i, columns, buffer(2));
      const float* const gain = call.in[3].as<const float>();
      for (int64_t j = 0; j < columns; ++j) u[j] = gain ? (a.offset + gain[j]) * dy[j] : dy[j];
      for (int64_t g = 0; g < groups; ++g) {
        float* const group = u + g * a.group;
        const float along = dot(group, h + g * a.group, a.group) / n;
        const float mean = a.centred ? sum(group, a.group) / n : 0;
        const float r = call.in[2].as<const float>()[i * groups + g];
        for (int64_t j = 0; j < a.group; ++j) group[j] = r * (group[j] - mean - h[g * a.group + j] * along);
      }
      if (call.in[4]) add_scaled(u, read_row(call.in[4], i, columns, buffer(3)), 1, columns);
      write_row(call.out[0], i, columns, u);
    }
  });
}

[[gnu::cold]] void reference_dx(const ReferenceCall& call) {
  const UnitNormAttributes& a = of(call.attributes);
  const int64_t columns = call.in[1].shape[1];
  const auto n = static_cast<double>(a.group);
  const auto u = [&](int64_t i) {
    return call.in[0][i] * (call.in[3] ? double{a.offset} + call.in[3][i % columns] : 1.0);
  };
  for (int64_t g = 0; g < call.in[1].shape.count() / a.group; ++g) {
    double mean = 0, along = 0;
    for (int64_t i = g * a.group; i < (g + 1) * a.group; ++i)
      mean += a.centred ? u(i) / n : 0, along += u(i) * call.in[1][i] / n;
    for (int64_t i = g * a.group; i < (g + 1) * a.group; ++i)
      call.out[0][i] = call.in[2][g] * (u(i) - mean - call.in[1][i] * along) + (call.in[4] ? call.in[4][i] : 0.0);
  }
}

[[gnu::cold]] std::vector<Sample> samples_dx() {
  const Type none{.codec = nullptr};
  return {{UnitNormAttributes{.group = 7}, {Type{{5, 7}}, Type{{5, 7}}, Type{{5, 1}}, Type{{7}}, none}},
          {UnitNormAttributes{.offset = 1, .group = 33, .centred = true},
           {Type{{9, 66}, &kBf16}, Type{{9, 66}, &kBf16}, Type{{9, 2}}, Type{{66}}, Type{{9, 66}, &kBf16}}},
          {UnitNormAttributes{.group = 8, .centred = true}, {Type{{3, 8}}, Type{{3, 8}}, Type{{3, 1}}, none, none}}};
}

Result<std::vector<Type>> infer_dgain(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("unit_norm_dgain", in, 3));
  CHECK_OK(expect_rank("unit_norm_dgain", "h", in[2], 2));
  CHECK_OK(expect_shape("unit_norm_dgain", "dy", in[1], in[2].shape));
  CHECK_OK(expect_shape("unit_norm_dgain", "accumulator", in[0], {in[2].shape[1]}));
  CHECK_OK(expect_f32("unit_norm_dgain", "accumulator", in[0]));
  return std::vector{Type{in[0].shape}};
}

// Rows in order, granule by granule; one thread, as the order is the result.
void run_dgain(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], columns = call.in[1].shape[1];
  const auto buffer = [&](int i) { return row_buffer(call, columns, 4, 0, i); };
  float* const partial = buffer(0);
  float* const product = buffer(1);
  for (int64_t first = 0; first < rows; first += kGranule) {
    std::fill(partial, partial + columns, 0.0f);
    for (int64_t i = first; i < std::min(rows, first + kGranule); ++i) {
      const float* const dy = read_row(call.in[1], i, columns, buffer(2));
      std::copy(dy, dy + columns, product);
      multiply(product, read_row(call.in[2], i, columns, buffer(3)), columns);
      add_scaled(partial, product, 1, columns);
    }
    add_scaled(call.out[0].as<float>(), partial, 1, columns);
  }
}

[[gnu::cold]] void reference_dgain(const ReferenceCall& call) {
  const int64_t columns = call.in[2].shape[1];
  for (int64_t j = 0; j < columns; ++j) call.out[0][j] = call.in[0][j];
  for (int64_t i = 0; i < call.in[2].shape.count(); ++i) call.out[0][i % columns] += call.in[1][i] * call.in[2][i];
}

[[gnu::cold]] std::vector<Sample> samples_dgain() {
  return {{UnitNormAttributes{.group = 7}, {Type{{7}}, Type{{5, 7}}, Type{{5, 7}}}},
          {UnitNormAttributes{.group = 33}, {Type{{33}}, Type{{600, 33}, &kBf16}, Type{{600, 33}, &kBf16}}}};
}

std::string text(const std::any& any) {
  const UnitNormAttributes& a = of(any);
  return fmt::format("{{epsilon {}, offset {}, groups of {}{}}}", a.epsilon, a.offset, a.group,
                     a.centred ? ", centred" : "");
}

constexpr InPlace kOverX[] = {{0, 0, false}};
constexpr InPlace kOverDy[] = {{0, 0, false}, {0, 4, false}};
constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kUnitNorm = {.name = "unit_norm",
                      .infer = infer,
                      .text = text,
                      .workspace = workspace<0, 2>,
                      .cost = pointwise_cost,
                      .reference = reference,
                      .run = run,
                      .samples = samples,
                      .in_place = kOverX};
const Op kUnitNormDx = {.name = "unit_norm_dx",
                        .infer = infer_dx,
                        .text = text,
                        .workspace = workspace<1, 4>,
                        .cost = pointwise_cost,
                        .reference = reference_dx,
                        .run = run_dx,
                        .samples = samples_dx,
                        .in_place = kOverDy};
const Op kUnitNormDgain = {.name = "unit_norm_dgain",
                           .infer = infer_dgain,
                           .text = text,
                           .workspace = workspace<2, 4>,
                           .cost = pointwise_cost,
                           .reference = reference_dgain,
                           .run = run_dgain,
                           .samples = samples_dgain,
                           .in_place = kAccumulates,
                           .alone = true};

}  // namespace thimble
