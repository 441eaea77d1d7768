// short_conv: a causal convolution of every column by itself, over a few rows.
//
//   Paper     Yang et al. 2024, arXiv:2406.06484, section 3.4: before keys, queries and values of a recurrent mixer
//   Gradient  dx[t, c] = sum_j w[c, j] dy[t + taps - 1 - j, c] within the sequence;  dw[c, j] = sum_t dy[t, c] x[.., c]
//   Order     taps from the oldest to the newest, in f32; dw over granules of 512 rows, in order
#include <algorithm>

#include "ops/backward.h"
#include "ops/recurrent.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

Result<void> expect_taps(std::string_view op, const Type& x, const Type& w) {
  CHECK_OK(expect_rank(op, "x", x, 2));
  CHECK_OK(expect_elements(op, "x", x));
  CHECK_OK(expect_rank(op, "w", w, 1));
  CHECK_OK(expect_f32(op, "w", w));
  if (w.shape[0] >= x.shape[1] && w.shape[0] % x.shape[1] == 0) return {};
  return fail(ErrorCode::shape, "{}: w should be [{} * taps], found {}", op, x.shape[1], w.shape.text());
}

Result<std::vector<Type>> infer_with(const char* op, std::span<const Type> in) {
  CHECK_OK(expect_operands(op, in, 3));
  CHECK_OK(expect_taps(op, in[0], in[1]));
  CHECK_OK(expect_indices(op, "starts", in[2], in[0].shape[0]));
  return std::vector{in[0]};
}

int64_t taps_of(const Shape& w, const Shape& x) { return w[0] / x[1]; }
int64_t taps_of(const Call& call) { return taps_of(call.in[1].shape, call.in[0].shape); }

// The taps as rows of n, one of x and a sum.
int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], static_cast<int>(taps_of(in[1].shape, in[0].shape)) + 2, threads);
}

// A thread's taps, transposed: tap(j) is [n].
class Taps {
 public:
  Taps(const Call& call, int thread) : call_(call), thread_(thread), n_(call.in[0].shape[1]), taps_(taps_of(call)) {
    for (int64_t j = 0; j < taps_; ++j)
      for (int64_t c = 0; c < n_; ++c) tap(j)[c] = call.in[1].as<const float>()[c * taps_ + j];
  }
  float* tap(int64_t j) const {
    return row_buffer(call_, n_, static_cast<int>(taps_) + 2, thread_, static_cast<int>(j));
  }
  float* row() const { return tap(taps_); }
  float* sum() const { return tap(taps_ + 1); }
  int64_t taps() const { return taps_; }
  void add(int64_t j, const float* x) const {
    for (int64_t c = 0; c < n_; ++c) sum()[c] += tap(j)[c] * x[c];
  }

 private:
  const Call& call_;
  const int thread_;
  const int64_t n_, taps_;
};

// Rows in parts; body(row, taps) adds what a row gets to taps.sum().
template <class Body>
void for_rows(const Call& call, const Body& body) noexcept {
  const int64_t n = call.in[0].shape[1];
  call.run.threads.divide(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const Taps taps(call, thread);
    for (int64_t t = begin; t < end; ++t) {
      std::fill_n(taps.sum(), n, 0.0f);
      body(t, taps);
      write_row(call.out[0], t, n, taps.sum());
    }
  });
}

void run(const Call& call) noexcept {
  const auto* const starts = call.in[2].as<const int32_t>();
  for_rows(call, [&](int64_t t, const Taps& taps) {
    for (int64_t j = 0; j < taps.taps(); ++j)
      if (const int64_t from = t - taps.taps() + 1 + j; from >= std::max<int64_t>(0, starts[t]))
        taps.add(j, read_row(call.in[0], from, call.in[0].shape[1], taps.row()));
  });
}

void run_dx(const Call& call) noexcept {
  const auto* const starts = call.in[2].as<const int32_t>();
  for_rows(call, [&](int64_t t, const Taps& taps) {
    for (int64_t j = 0; j < taps.taps(); ++j)
      if (const int64_t to = t + taps.taps() - 1 - j; to < call.in[0].shape[0] && starts[to] <= t)
        taps.add(j, read_row(call.in[0], to, call.in[0].shape[1], taps.row()));
  });
}

// Calls each(t, from, j) for every row, row that it reads and tap.
template <class Each>
void for_taps(const ReferenceOperand& starts, int64_t rows, int64_t taps, const Each& each) {
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t j = 0; j < taps; ++j)
      if (const int64_t from = t - taps + 1 + j; from >= std::max<int64_t>(0, static_cast<int64_t>(starts[t])))
        each(t, from, j);
}

[[gnu::cold]] void reference(const ReferenceCall& call, bool back) {
  const int64_t n = call.in[0].shape[1], taps = taps_of(call.in[1].shape, call.in[0].shape);
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  for_taps(call.in[2], call.in[0].shape[0], taps, [&](int64_t t, int64_t from, int64_t j) {
    for (int64_t c = 0; c < n; ++c)
      call.out[0][(back ? from : t) * n + c] += call.in[1][c * taps + j] * call.in[0][(back ? t : from) * n + c];
  });
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0], w = node.in[1];
  if (dy == kNone) return {};
  const ValueId starts = backward.saved(node.in[2]);
  if (backward.wanted(w)) backward.accumulate(w, kShortConvDw, {}, {dy, backward.saved(x), starts}, ".sum");
  if (backward.wanted(x))
    backward.add(x, backward.graph().emit(kShortConvDx, {}, {dy, backward.saved(w), starts}, backward.name(x)));
  return {};
}

// in: accumulator, dy, x, starts.
Result<std::vector<Type>> infer_dw(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("short_conv_dw", in, 4));
  CHECK_OK(expect_taps("short_conv_dw", in[1], in[0]));
  CHECK_OK(expect_shape("short_conv_dw", "x", in[2], in[1].shape));
  CHECK_OK(expect_elements("short_conv_dw", "x", in[2]));
  CHECK_OK(expect_indices("short_conv_dw", "starts", in[3], in[1].shape[0]));
  return std::vector{Type{in[0].shape, &kF32}};
}

// A granule's sums, and elements of one row of dy and of x.
int64_t workspace_dw(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return row_buffer_bytes(in[0].shape[0] + 2 * in[1].shape[1], 1, 1);
}

// Threads share the columns.
void run_dw(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], n = call.in[1].shape[1], taps = taps_of(call.in[0].shape, call.in[1].shape);
  const auto* const starts = call.in[3].as<const int32_t>();
  float* const sums = row_buffer(call, n * taps + 2 * n, 1, 0, 0);
  call.run.threads.divide(n, 16, [&](int64_t begin, int64_t end, int) {
    const int64_t count = end - begin;
    float *const dy = sums + n * taps + begin, *const x = dy + n;
    for (int64_t granule = 0; granule < rows; granule += kGranule) {
      std::fill(sums + begin * taps, sums + end * taps, 0.0f);
      for (int64_t t = granule; t < std::min(rows, granule + kGranule); ++t) {
        const float* const upstream = read_run(call.in[1], t * n + begin, count, dy);
        for (int64_t j = 0; j < taps; ++j) {
          const int64_t from = t - taps + 1 + j;
          if (from < std::max<int64_t>(0, starts[t])) continue;
          const float* const input = read_run(call.in[2], from * n + begin, count, x);
          for (int64_t c = 0; c < count; ++c) sums[(begin + c) * taps + j] += upstream[c] * input[c];
        }
      }
      add_scaled(call.out[0].as<float>() + begin * taps, sums + begin * taps, 1, count * taps);
    }
  });
}

[[gnu::cold]] void reference_dw(const ReferenceCall& call) {
  const int64_t n = call.in[1].shape[1], taps = taps_of(call.in[0].shape, call.in[1].shape);
  for (int64_t i = 0; i < n * taps; ++i) call.out[0][i] = call.in[0][i];
  for_taps(call.in[3], call.in[1].shape[0], taps, [&](int64_t t, int64_t from, int64_t j) {
    for (int64_t c = 0; c < n; ++c) call.out[0][c * taps + j] += call.in[1][t * n + c] * call.in[2][from * n + c];
  });
}

// in: x, w, states, slots, positions.
Result<std::vector<Type>> infer_cached(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("short_conv_cached", in, 5));
  CHECK_OK(expect_taps("short_conv_cached", in[0], in[1]));
  CHECK_OK(expect_rank("short_conv_cached", "states", in[2], 2));
  CHECK_OK(expect_shape("short_conv_cached", "states", in[2], {in[2].shape[0], in[1].shape[0] - in[0].shape[1]}));
  CHECK_OK(expect_f32("short_conv_cached", "states", in[2]));
  CHECK_OK(expect_indices("short_conv_cached", "slots", in[3], in[0].shape[0]));
  CHECK_OK(expect_indices("short_conv_cached", "positions", in[4], in[0].shape[0]));
  return std::vector{in[0], in[2]};
}

int64_t workspace_cached(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return row_buffer_bytes(2 * in[0].shape[1], 1, 1);
}

// Threads share the columns: each goes through all rows. A state holds the rows before, the oldest first.
void run_cached(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1], taps = taps_of(call);
  const auto *const slots = call.in[3].as<const int32_t>(), *const positions = call.in[4].as<const int32_t>();
  const float* const w = call.in[1].as<const float>();
  float* const rows = row_buffer(call, 2 * n, 1, 0, 0);
  call.run.threads.divide(n, 64, [&](int64_t begin, int64_t end, int) {
    float *const x = rows + begin, *const y = rows + n + begin;
    for (int64_t t = 0; t < call.in[0].shape[0]; ++t) {
      float* const state = call.out[1].as<float>() + slots[t] * (taps - 1) * n;
      const float* const input = read_run(call.in[0], t * n + begin, end - begin, x);
      for (int64_t c = begin; c < end; ++c) {
        float sum = 0;
        for (int64_t j = 0; j + 1 < taps; ++j) {
          float& before = state[j * n + c];
          if (positions[t] == 0) before = 0;
          sum += w[c * taps + j] * before;
        }
        const float now = input[c - begin];
        y[c - begin] = sum + w[c * taps + taps - 1] * now;
        for (int64_t j = 0; j + 2 < taps; ++j) state[j * n + c] = state[(j + 1) * n + c];
        if (taps > 1) state[(taps - 2) * n + c] = now;
      }
      write_run(call.out[0], t * n + begin, end - begin, y);
    }
  });
}

[[gnu::cold]] void reference_cached(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1], taps = taps_of(call.in[1].shape, call.in[0].shape);
  for (int64_t i = 0; i < call.out[1].shape.count(); ++i) call.out[1][i] = call.in[2][i];
  for (int64_t t = 0; t < call.in[0].shape[0]; ++t)
    for (int64_t c = 0; c < n; ++c) {
      const int64_t slot = static_cast<int64_t>(call.in[3][t]) * (taps - 1) * n;
      std::vector<double> window;
      for (int64_t j = 0; j + 1 < taps; ++j) window.push_back(call.in[4][t] == 0 ? 0 : call.out[1][slot + j * n + c]);
      window.push_back(call.in[0][t * n + c]);
      call.out[0][t * n + c] = 0;
      for (int64_t j = 0; j < taps; ++j)
        call.out[0][t * n + c] += call.in[1][c * taps + j] * window[static_cast<size_t>(j)];
      for (int64_t j = 0; j + 1 < taps; ++j) call.out[1][slot + j * n + c] = window[static_cast<size_t>(j) + 1];
    }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  return {.bytes = moved_bytes(in, out)};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{6, 5}}, Type{{20}}, Type{{6}, &kI32}}, {{}, {}, {0, 0, 0, 0, 0, 5}}},
          {{}, {Type{{5, 33}, &kBf16}, Type{{99}}, Type{{5}, &kI32}}, {{}, {}, {0, 0, 2, 2, 2}}}};
}

[[gnu::cold]] std::vector<Sample> samples_dw() {
  std::vector<int32_t> starts(530, 0);
  std::fill(starts.begin() + 511, starts.end(), 511);
  return {
      {{}, {Type{{20}}, Type{{6, 5}}, Type{{6, 5}}, Type{{6}, &kI32}}, {{}, {}, {}, {0, 0, 0, 0, 0, 5}}},
      {{}, {Type{{70}}, Type{{530, 35}, &kBf16}, Type{{530, 35}, &kBf16}, Type{{530}, &kI32}}, {{}, {}, {}, starts}}};
}

[[gnu::cold]] std::vector<Sample> samples_cached() {
  const Type index{{5}, &kI32};
  return {{{}, {Type{{5, 7}}, Type{{28}}, Type{{3, 21}}, index, index}, {{}, {}, {}, {2, 0, 0, 2, 0}, {0, 7, 8, 1, 9}}},
          {{},
           {Type{{5, 130}, &kBf16}, Type{{260}}, Type{{2, 130}}, index, index},
           {{}, {}, {}, {1, 1, 0, 1, 1}, {3, 4, 0, 0, 1}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};
constexpr InPlace kStates[] = {{1, 2, true}};

}  // namespace

const Op kShortConv = {.name = "short_conv",
                       .infer = [](const std::any&, std::span<const Type> in) { return infer_with("short_conv", in); },
                       .gradient = gradient,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = [](const ReferenceCall& call) { reference(call, false); },
                       .run = run,
                       .samples = samples};
const Op kShortConvDx = {
    .name = "short_conv_dx",
    .infer = [](const std::any&, std::span<const Type> in) { return infer_with("short_conv_dx", in); },
    .workspace = workspace,
    .cost = cost,
    .reference = [](const ReferenceCall& call) { reference(call, true); },
    .run = run_dx,
    .samples = samples};
const Op kShortConvDw = {.name = "short_conv_dw",
                         .infer = infer_dw,
                         .workspace = workspace_dw,
                         .cost = cost,
                         .reference = reference_dw,
                         .run = run_dw,
                         .samples = samples_dw,
                         .in_place = kAccumulates};
const Op kShortConvCached = {.name = "short_conv_cached",
                             .infer = infer_cached,
                             .workspace = workspace_cached,
                             .cost = cost,
                             .reference = reference_cached,
                             .run = run_cached,
                             .samples = samples_cached,
                             .in_place = kStates};

}  // namespace thimble
