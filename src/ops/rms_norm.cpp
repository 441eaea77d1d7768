// rms_norm: y = x / sqrt(mean(x^2) + epsilon) * (offset + gain), over groups of columns (a head, or the whole row).
//
//   Paper     Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4
//   Gradient  with r = 1/sqrt(mean(x^2) + epsilon), w = group width, u = (offset + gain)*dy:
//             dx = r * (u - x * r^2/w * sum(u*x));  dgain = sum over rows of dy * x * r
//   Keeps     x (r is recomputed)
#include <cmath>

#include "ops/backward.h"
#include "ops/norm_parts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

float inverse_rms(const float* x, int64_t width, double epsilon) noexcept {
  return static_cast<float>(1.0 /
                            std::sqrt(static_cast<double>(dot(x, x, width)) / static_cast<double>(width) + epsilon));
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("rms_norm", in, 2));
  CHECK_OK(expect_groups("rms_norm", any, in[0], in[1]));
  return std::vector{in[0]};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 3, threads);
}

void run(const Call& call) noexcept {
  const int64_t columns = call.in[0].shape[1];
  const NormGroups groups(call.attributes, call.in[1].shape, columns);
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const y = row_buffer(call, columns, 3, thread, 1);
    const float* const gain = groups.gains(call.in[1], row_buffer(call, columns, 3, thread, 2));
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, columns, row_buffer(call, columns, 3, thread, 0));
      for (int64_t g = 0; g < columns; g += groups.width) {
        std::copy(x + g, x + g + groups.width, y + g);
        scale(y + g, inverse_rms(x + g, groups.width, call.as<NormAttributes>().epsilon), groups.width);
        multiply(y + g, gain + g % groups.gain_count, groups.width);
      }
      write_row(call.out[0], i, columns, y);
    }
  });
}

double inverse_rms(const ReferenceOperand& x, int64_t start, int64_t width, double epsilon) {
  double squares = 0;
  for (int64_t j = 0; j < width; ++j) squares += x[start + j] * x[start + j];
  return 1 / std::sqrt(squares / static_cast<double>(width) + epsilon);
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const NormGroups groups(call.attributes, call.in[1].shape, call.in[0].shape[1]);
  for (int64_t g = 0; g < call.in[0].shape.count(); g += groups.width) {
    const double r = inverse_rms(call.in[0], g, groups.width, call.as<NormAttributes>().epsilon);
    for (int64_t i = g; i < g + groups.width; ++i) call.out[0][i] = call.in[0][i] * r * groups.gain(call.in[1], i);
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  Graph& graph = backward.graph();
  const ValueId dy = backward.gradient_of(node.out[0]);
  const ValueId x = node.in[0], gain = node.in[1];
  if (dy == kNone) return {};
  const ValueId kept = backward.saved(x);
  if (backward.wanted(gain)) backward.accumulate(gain, kRmsNormDgain, node.attributes, {dy, kept}, ".sum");
  if (!backward.wanted(x)) return {};
  // What x has gathered so far (the residual path) is added in the same pass.
  const ValueId addend = backward.gradient_of(x);
  backward.add(x, graph.emit(kRmsNormDx, node.attributes, {dy, kept, gain, addend}, backward.name(x)));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{NormAttributes{1e-5}, {Type{{5, 7}}, Type{{7}}}},
          {NormAttributes{1e-6}, {Type{{4, 12}}, Type{{4}}}},
          {NormAttributes{1e-5}, {Type{{9, 66}, &kBf16}, Type{{33}}}},
          {NormAttributes{1e-5, 1}, {Type{{5, 7}}, Type{{7}}}},
          {NormAttributes{1e-5, 1, 3}, {Type{{4, 12}}, Type{{6}}}}};
}

Result<std::vector<Type>> infer_dx(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("rms_norm_dx", in, 4));
  CHECK_OK(expect_groups("rms_norm_dx", any, in[1], in[2]));
  CHECK_OK(expect_shape("rms_norm_dx", "dy", in[0], in[1].shape));
  if (!absent(in[3])) CHECK_OK(expect_shape("rms_norm_dx", "addend", in[3], in[1].shape));
  return std::vector{in[1]};
}

int64_t workspace_dx(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 5, threads);
}

void run_dx(const Call& call) noexcept {
  const int64_t columns = call.in[0].shape[1];
  const NormGroups groups(call.attributes, call.in[2].shape, columns);
  const int64_t width = groups.width;
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, columns, 5, thread, i); };
    const float* const gain = groups.gains(call.in[2], buffer(4));
    for (int64_t i = begin; i < end; ++i) {
      const float* const dy = read_row(call.in[0], i, columns, buffer(0));
      const float* const x = read_row(call.in[1], i, columns, buffer(1));
      float* const dx = buffer(2);
      for (int64_t g = 0; g < columns; g += width) {
        const float r = inverse_rms(x + g, width, call.as<NormAttributes>().epsilon);
        std::copy(dy + g, dy + g + width, dx + g);
        multiply(dx + g, gain + g % groups.gain_count, width);
        const float projection = dot(dx + g, x + g, width) * r * r / static_cast<float>(width);
        add_scaled(dx + g, x + g, -projection, width);
        scale(dx + g, r, width);
      }
      if (call.in[3]) add_scaled(dx, read_row(call.in[3], i, columns, buffer(3)), 1, columns);
      write_row(call.out[0], i, columns, dx);
    }
  });
}

[[gnu::cold]] void reference_dx(const ReferenceCall& call) {
  const NormGroups groups(call.attributes, call.in[2].shape, call.in[1].shape[1]);
  const int64_t width = groups.width;
  const auto& dy = call.in[0];
  const auto& x = call.in[1];
  for (int64_t g = 0; g < x.shape.count(); g += width) {
    const double r = inverse_rms(x, g, width, call.as<NormAttributes>().epsilon);
    double projection = 0;
    for (int64_t j = 0; j < width; ++j) projection += groups.gain(call.in[2], g + j) * dy[g + j] * x[g + j];
    for (int64_t j = 0; j < width; ++j)
      call.out[0][g + j] = r * (groups.gain(call.in[2], g + j) * dy[g + j] -
                                x[g + j] * r * r * projection / static_cast<double>(width)) +
                           (call.in[3] ? call.in[3][g + j] : 0.0);
  }
}

[[gnu::cold]] std::vector<Sample> samples_dx() {
  return {{NormAttributes{1e-5}, {Type{{5, 7}}, Type{{5, 7}}, Type{{7}}, Type{.codec = nullptr}}},
          {NormAttributes{1e-5}, {Type{{9, 66}, &kBf16}, Type{{9, 66}, &kBf16}, Type{{33}}, Type{{9, 66}, &kBf16}}},
          {NormAttributes{1e-5, 1, 3}, {Type{{4, 12}}, Type{{4, 12}}, Type{{6}}, Type{.codec = nullptr}}}};
}

Result<std::vector<Type>> infer_dgain(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("rms_norm_dgain", in, 3));
  CHECK_OK(expect_groups("rms_norm_dgain", any, in[2], in[0]));
  for (const int i : {1, 2})
    if (in[static_cast<size_t>(i)].codec->block > 1)
      return fail(ErrorCode::shape, "rms_norm_dgain: operand {} is in blocks, whose columns cannot be taken apart", i);
  CHECK_OK(expect_shape("rms_norm_dgain", "dy", in[1], in[2].shape));
  return std::vector{Type{in[0].shape, &kF32}};
}

// Of a granule: the inverse rms of every group of its rows, and the sum that is added to the gradient at its end.
int64_t granule_floats(const NormGroups& groups, int64_t rows, int64_t columns) {
  return std::min(rows, kGranule) * (columns / groups.width) + groups.gain_count;
}

int64_t workspace_dgain(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const int64_t rows = in[1].shape[0], columns = in[1].shape[1];
  return row_buffer_bytes(columns, 3, threads) +
         4 * granule_floats(NormGroups(any, in[0].shape, columns), rows, columns);
}

// Threads divide the gains, so that rows are added in order.
void run_dgain(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], columns = call.in[1].shape[1];
  const NormGroups groups(call.attributes, call.in[0].shape, columns);
  const int64_t width = groups.width, in_row = columns / width;
  Threads& threads = call.run.threads;
  float* const partial = row_buffer(call, columns, 3, threads.count(), 0);
  float* const inverse = partial + groups.gain_count;
  for (int64_t row = 0; row < rows; row += kGranule) {
    const int64_t count = std::min(rows - row, kGranule);
    threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) {
        const float* const x = read_row(call.in[2], row + i, columns, row_buffer(call, columns, 3, thread, 0));
        for (int64_t g = 0; g < in_row; ++g)
          inverse[i * in_row + g] = inverse_rms(x + g * width, width, call.as<NormAttributes>().epsilon);
      }
    });
    threads.divide(groups.gain_count, 16, [&](int64_t begin, int64_t end, int thread) {
      const auto buffer = [&](int i) { return row_buffer(call, columns, 3, thread, i); };
      std::fill(partial + begin, partial + end, 0.0f);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t g = 0; g < in_row; ++g) {
          const int64_t gain = g * width % groups.gain_count;  // of the group's first column
          const int64_t from = std::max(begin, gain), to = std::min(end, gain + width);
          if (from >= to) continue;
          const int64_t at = (row + i) * columns + g * width + from - gain;
          float* const product = buffer(2);
          std::copy_n(read_run(call.in[1], at, to - from, buffer(0)), to - from, product);
          multiply(product, read_run(call.in[2], at, to - from, buffer(1)), to - from);
          add_scaled(partial + from, product, inverse[i * in_row + g], to - from);
        }
      add_scaled(call.out[0].as<float>() + begin, partial + begin, 1, end - begin);
    });
  }
}

[[gnu::cold]] void reference_dgain(const ReferenceCall& call) {
  const NormGroups groups(call.attributes, call.in[0].shape, call.in[1].shape[1]);
  for (int64_t j = 0; j < groups.gain_count; ++j) call.out[0][j] = call.in[0][j];
  for (int64_t g = 0; g < call.in[1].shape.count(); g += groups.width) {
    const double r = inverse_rms(call.in[2], g, groups.width, call.as<NormAttributes>().epsilon);
    for (int64_t i = g; i < g + groups.width; ++i)
      call.out[0][i % groups.gain_count] += call.in[1][i] * call.in[2][i] * r;
  }
}

[[gnu::cold]] std::vector<Sample> samples_dgain() {
  return {{NormAttributes{1e-5}, {Type{{7}}, Type{{5, 7}}, Type{{5, 7}}}},
          {NormAttributes{1e-5}, {Type{{33}}, Type{{600, 66}, &kBf16}, Type{{600, 66}, &kBf16}}},
          {NormAttributes{1e-5, 1, 3}, {Type{{6}}, Type{{4, 12}}, Type{{4, 12}}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};
constexpr InPlace kOverX[] = {{0, 0, false}};
constexpr InPlace kOverDy[] = {{0, 0, false}, {0, 3, false}};

}  // namespace

const Op kRmsNorm = {.name = "rms_norm",
                     .infer = infer,
                     .text = norm_text,
                     .gradient = gradient,
                     .tangent = [](Tangents& t, const Node& node) { return norm_tangent(t, node, false); },
                     .workspace = workspace,
                     .cost = pointwise_cost,
                     .reference = reference,
                     .run = run,
                     .samples = samples,
                     .in_place = kOverX};
const Op kRmsNormDx = {.name = "rms_norm_dx",
                       .infer = infer_dx,
                       .text = norm_text,
                       .workspace = workspace_dx,
                       .cost = pointwise_cost,
                       .reference = reference_dx,
                       .run = run_dx,
                       .samples = samples_dx,
                       .in_place = kOverDy};
const Op kRmsNormDgain = {.name = "rms_norm_dgain",
                          .infer = infer_dgain,
                          .text = norm_text,
                          .workspace = workspace_dgain,
                          .cost = pointwise_cost,
                          .reference = reference_dgain,
                          .run = run_dgain,
                          .samples = samples_dgain,
                          .in_place = kAccumulates};

}  // namespace thimble
