// slope_codes, slope_gradient: the derivative of an activation function as a step function, kept as a few bits
// (keep.h).
//
//   Write  c = number of edges below x, in `bits` bits; 32 / bits codes a word
//   Read   dgate = dy * up * levels[c];  dup = dy * f
#include <algorithm>

#include "ops/keep.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

const StepSlope& of(const std::any& attributes) { return *std::any_cast<StepSlope>(&attributes); }

int64_t words_of(const StepSlope& slope, int64_t columns) {
  const int64_t each = 32 / slope.bits;
  return (columns + each - 1) / each;
}

Result<void> check_slope(std::string_view op, const StepSlope& slope) {
  const bool few = slope.bits >= 1 && slope.bits <= 8 && slope.levels.size() <= size_t{1} << slope.bits;
  if (few && slope.edges.size() + 1 == slope.levels.size() && std::is_sorted(slope.edges.begin(), slope.edges.end()))
    return {};
  return fail(ErrorCode::shape, "{}: {} levels and {} edges in order are expected in {} bits", op, slope.levels.size(),
              slope.edges.size(), slope.bits);
}

Result<std::vector<Type>> infer_codes(const std::any& any, std::span<const Type> in) {
  CHECK_OK(check_slope("slope_codes", of(any)));
  CHECK_OK(expect_operands("slope_codes", in, 1));
  CHECK_OK(expect_rank("slope_codes", "x", in[0], 2));
  return std::vector{Type{{in[0].shape[0], words_of(of(any), in[0].shape[1])}, &kI32, in[0].extent}};
}

int64_t workspace_codes(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

void run_codes(const Call& call) noexcept {
  const StepSlope& slope = of(call.attributes);
  const int64_t columns = call.in[0].shape[1], words = words_of(slope, columns), each = 32 / slope.bits;
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, columns, row_buffer(call, columns, 1, thread, 0));
      uint32_t* const out = call.out[0].as<uint32_t>() + i * words;
      for (int64_t w = 0; w < words; ++w) {
        const int64_t first = w * each, n = std::min(each, columns - first);
        uint32_t codes[32] = {};
        for (const float edge : slope.edges)
          for (int64_t j = 0; j < n; ++j) codes[j] += x[first + j] > edge;
        out[w] = 0;
        for (int64_t j = 0; j < n; ++j) out[w] |= codes[j] << (slope.bits * j);
      }
    }
  });
}

[[gnu::cold]] void reference_codes(const ReferenceCall& call) {
  const StepSlope& slope = of(call.attributes);
  const int64_t columns = call.in[0].shape[1], words = words_of(slope, columns), each = 32 / slope.bits;
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) {
    uint32_t word = 0;
    for (int64_t j = i % words * each; j < std::min(columns, (i % words + 1) * each); ++j) {
      const double x = call.in[0][i / words * columns + j];
      const auto code = std::count_if(slope.edges.begin(), slope.edges.end(), [&](double edge) { return x > edge; });
      word |= static_cast<uint32_t>(code) << (slope.bits * (j % each));
    }
    call.out[0][i] = static_cast<int32_t>(word);
  }
}

StepSlope sample_slope(int bits) {
  StepSlope slope{.bits = bits, .edges = {}, .levels = {0}};
  for (int i = 1; i < 1 << bits; ++i) {
    slope.edges.push_back(static_cast<float>(i) / static_cast<float>(1 << (bits - 2)) - 2.1f);
    slope.levels.push_back(static_cast<float>(i) * 0.3f);
  }
  return slope;
}

[[gnu::cold]] std::vector<Sample> samples_codes() {
  return {{sample_slope(2), {Type{{3, 17}}}}, {sample_slope(3), {Type{{5, 33}, &kBf16}}}};
}

Result<std::vector<Type>> infer_gradient(const std::any& any, std::span<const Type> in) {
  CHECK_OK(check_slope("slope_gradient", of(any)));
  CHECK_OK(expect_operands("slope_gradient", in, 4));
  CHECK_OK(expect_rank("slope_gradient", "dy", in[0], 2));
  if (absent(in[1]) || in[1].codec != &kI32 ||
      !(in[1].shape == Shape{in[0].shape[0], words_of(of(any), in[0].shape[1])}))
    return fail(ErrorCode::shape, "slope_gradient: codes of {} numbers of {} bits are expected, found {}",
                in[0].shape.text(), of(any).bits, in[1].shape.text());
  for (size_t i : {2, 3})
    if (!absent(in[i])) CHECK_OK(expect_shape("slope_gradient", i == 2 ? "up" : "f", in[i], in[0].shape));
  return std::vector{in[0], in[0]};
}

int64_t workspace_gradient(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 4, threads);
}

void run_gradient(const Call& call) noexcept {
  const StepSlope& slope = of(call.attributes);
  const int64_t columns = call.in[0].shape[1], words = words_of(slope, columns), each = 32 / slope.bits;
  const uint32_t mask = (1u << slope.bits) - 1;
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, columns, 4, thread, i); };
    for (int64_t i = begin; i < end; ++i) {
      const float* const dy = read_row(call.in[0], i, columns, buffer(0));
      const uint32_t* const codes = call.in[1].as<uint32_t>() + i * words;
      float* const out = buffer(1);
      for (int64_t j = 0; j < columns; ++j) out[j] = slope.levels[codes[j / each] >> (slope.bits * (j % each)) & mask];
      multiply(out, dy, columns);
      if (call.in[2]) multiply(out, read_row(call.in[2], i, columns, buffer(2)), columns);
      float* const dup = buffer(3);
      if (call.out[1]) {
        const float* const f = read_row(call.in[3], i, columns, buffer(2));
        for (int64_t j = 0; j < columns; ++j) dup[j] = dy[j] * f[j];
      }
      write_row(call.out[0], i, columns, out);
      if (call.out[1]) write_row(call.out[1], i, columns, dup);
    }
  });
}

[[gnu::cold]] void reference_gradient(const ReferenceCall& call) {
  const StepSlope& slope = of(call.attributes);
  const int64_t columns = call.in[0].shape[1], words = words_of(slope, columns), each = 32 / slope.bits;
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) {
    const int64_t j = i % columns;
    const auto word = static_cast<uint32_t>(static_cast<int64_t>(call.in[1][i / columns * words + j / each]));
    const double level = slope.levels[word >> (slope.bits * (j % each)) % 32 & ((1u << slope.bits) - 1)];
    call.out[0][i] = call.in[0][i] * (call.in[2] ? call.in[2][i] : 1.0) * level;
    if (call.out[1]) call.out[1][i] = call.in[3] ? call.in[0][i] * call.in[3][i] : 0.0;
  }
}

[[gnu::cold]] std::vector<Sample> samples_gradient() {
  std::vector<int32_t> words(3 * 2);
  for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<int32_t>(0x01234567 * (i + 1));
  return {{sample_slope(2), {Type{{3, 17}}, Type{{3, 2}, &kI32}, Type{{3, 17}}, Type{{3, 17}}}, {{}, words, {}, {}}},
          {sample_slope(3),
           {Type{{3, 20}, &kBf16}, Type{{3, 2}, &kI32}, Type{{3, 20}, &kBf16}, Type{{3, 20}, &kBf16}},
           {{}, words, {}, {}}}};
}

std::string text(const std::any& any) {
  const StepSlope& slope = of(any);
  return fmt::format("{{bits {}, edges {}, levels {}}}", slope.bits, fmt::join(slope.edges, " "),
                     fmt::join(slope.levels, " "));
}

constexpr InPlace kOverDy[] = {{0, 0, false}, {1, 3, false}};

}  // namespace

const Op kSlopeCodes = {.name = "slope_codes",
                        .infer = infer_codes,
                        .text = text,
                        .workspace = workspace_codes,
                        .cost = pointwise_cost,
                        .reference = reference_codes,
                        .run = run_codes,
                        .samples = samples_codes};
const Op kSlopeGradient = {.name = "slope_gradient",
                           .infer = infer_gradient,
                           .text = text,
                           .workspace = workspace_gradient,
                           .cost = pointwise_cost,
                           .reference = reference_gradient,
                           .run = run_gradient,
                           .samples = samples_gradient,
                           .in_place = kOverDy};

}  // namespace thimble
