// sample_rows, sampled_dw: a product over tokens, left^T right, of a few of them (keep.h).
//
//   Sample   of each granule of m rows k = max(1, round(rate m)): with p_i = |x_i| / sum |x|, the c rows of the largest
//            p with weight 1, where c in [0, k) has the least (1 - p_1 - ... - p_c) / (k - c); then k - c draws of the
//            others by their p, with replacement and weight (1 - p_1 - ... - p_c) / ((k - c) p_i)
//   Mean     every row counts 1 in the mean, so that the product is without a bias
//   Noise    uniform by (seed, stream, step, row)
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/random.h"
#include "kernels/gemm.h"
#include "ops/keep.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {

int64_t sampled_of(int64_t rows, double rate) {
  return std::clamp<int64_t>(std::llround(rate * static_cast<double>(rows)), 1, rows);
}

int64_t sampled_rows(int64_t rows, double rate) {
  return rows / kGranule * sampled_of(kGranule, rate) + (rows % kGranule ? sampled_of(rows % kGranule, rate) : 0);
}

namespace {

const SampleAttributes& of(const std::any& attributes) { return *std::any_cast<SampleAttributes>(&attributes); }

Result<void> check_rate(std::string_view op, double rate) {
  if (rate > 0 && rate <= 1) return {};
  return fail(ErrorCode::shape, "{}: a rate in (0, 1] is expected, found {}", op, rate);
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(check_rate("sample_rows", of(any).rate));
  CHECK_OK(expect_operands("sample_rows", in, 1));
  CHECK_OK(expect_rank("sample_rows", "x", in[0], 2));
  const int64_t rows = sampled_rows(in[0].shape[0], of(any).rate);
  return std::vector{Type{{rows, in[0].shape[1]}, in[0].codec}, Type{{rows}, &kI32}, Type{{rows}}};
}

// A granule's rows: which are taken, and how much each counts. norms: [m], changed; order: [m].
void choose(std::span<double> norms, std::span<int32_t> order, const Random& random, uint64_t first_row,
            std::span<int32_t> taken, std::span<float> weights) noexcept {
  const size_t m = norms.size(), k = taken.size();
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const double x = norms[static_cast<size_t>(a)], y = norms[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  const double total = std::accumulate(norms.begin(), norms.end(), 0.0);
  size_t certain = 0;
  double least = total / static_cast<double>(k), rest = total;
  for (size_t c = 1; c < k; ++c) {
    rest -= norms[static_cast<size_t>(order[c - 1])];
    if (const double score = rest / static_cast<double>(k - c); score < least) least = score, certain = c;
  }
  for (size_t i = 0; i < certain; ++i) taken[i] = order[i], weights[i] = 1;
  // Sums of what is left, from the largest on: a draw falls where they pass it.
  double sum = 0;
  for (size_t i = certain; i < m; ++i)
    norms[static_cast<size_t>(order[i])] = sum += norms[static_cast<size_t>(order[i])];
  for (size_t i = certain; i < k; ++i) {
    const double at = static_cast<double>(random.uniform(first_row + i)) * sum;
    const auto found =
        std::upper_bound(order.begin() + static_cast<std::ptrdiff_t>(certain), order.end(), at,
                         [&](double value, int32_t row) { return value < norms[static_cast<size_t>(row)]; });
    const size_t place = std::min(static_cast<size_t>(found - order.begin()), m - 1);
    const double before = place > certain ? norms[static_cast<size_t>(order[place - 1])] : 0;
    const double own = norms[static_cast<size_t>(order[place])] - before;
    taken[i] = order[place];
    weights[i] = own > 0 ? static_cast<float>(sum / (static_cast<double>(k - certain) * own)) : 0.0f;
  }
}

constexpr int64_t kChoiceBytes = kGranule * (8 + 4);

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return threads * (kChoiceBytes + row_buffer_bytes(in[0].shape[1], 1, 1));
}

void run(const Call& call) noexcept {
  const SampleAttributes& a = of(call.attributes);
  const int64_t rows = call.in[0].shape[0], columns = call.in[0].shape[1], each = sampled_of(kGranule, a.rate);
  const auto row_bytes = static_cast<size_t>(call.in[0].codec->bytes(columns));
  const Random random(call.run.seed, a.stream, call.run.step);
  call.run.threads.split(granules_of(rows), 1, [&](int64_t begin, int64_t end, int thread) {
    std::byte* const own = call.workspace.data() + thread * (kChoiceBytes + row_buffer_bytes(columns, 1, 1));
    auto* const norms = reinterpret_cast<double*>(own);
    auto* const order = reinterpret_cast<int32_t*>(own + kGranule * 8);
    auto* const buffer = reinterpret_cast<float*>(own + kChoiceBytes);
    for (int64_t granule = begin; granule < end; ++granule) {
      const int64_t first = granule * kGranule, m = std::min(kGranule, rows - first), k = sampled_of(m, a.rate);
      for (int64_t i = 0; i < m; ++i) {
        const float* const x = read_row(call.in[0], first + i, columns, buffer);
        norms[i] = std::sqrt(static_cast<double>(dot(x, x, columns)));
      }
      int32_t* const taken = call.out[1].as<int32_t>() + granule * each;
      choose({norms, static_cast<size_t>(m)}, {order, static_cast<size_t>(m)}, random,
             call.run.first_row + static_cast<uint64_t>(first), {taken, static_cast<size_t>(k)},
             {call.out[2].as<float>() + granule * each, static_cast<size_t>(k)});
      for (int64_t i = 0; i < k; ++i) {
        taken[i] += static_cast<int32_t>(first);
        std::memcpy(call.out[0].data + static_cast<size_t>(granule * each + i) * row_bytes,
                    call.in[0].data + static_cast<size_t>(taken[i]) * row_bytes, row_bytes);
      }
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const SampleAttributes& a = of(call.attributes);
  const int64_t rows = call.in[0].shape[0], columns = call.in[0].shape[1], each = sampled_of(kGranule, a.rate);
  const Random random(call.run.seed, a.stream, call.run.step);
  for (int64_t granule = 0; granule < granules_of(rows); ++granule) {
    const int64_t first = granule * kGranule, m = std::min(kGranule, rows - first), k = sampled_of(m, a.rate);
    std::vector<double> norms(static_cast<size_t>(m));
    std::vector<int32_t> order(norms.size()), taken(static_cast<size_t>(k));
    std::vector<float> weights(taken.size());
    for (int64_t i = 0; i < m * columns; ++i) {
      const double x = call.in[0][first * columns + i];
      norms[static_cast<size_t>(i / columns)] += x * x;
    }
    for (double& norm : norms) norm = std::sqrt(norm);
    choose(norms, order, random, call.run.first_row + static_cast<uint64_t>(first), taken, weights);
    for (int64_t i = 0; i < k; ++i) {
      const int64_t to = granule * each + i, from = first + taken[static_cast<size_t>(i)];
      call.out[1][to] = static_cast<double>(from), call.out[2][to] = weights[static_cast<size_t>(i)];
      for (int64_t j = 0; j < columns; ++j) call.out[0][to * columns + j] = call.in[0][from * columns + j];
    }
  }
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{SampleAttributes{.rate = 0.3, .stream = 3}, {Type{{10, 7}}}},
          {SampleAttributes{.rate = 0.1, .stream = 4}, {Type{{600, 9}, &kBf16}}}};
}

Result<std::vector<Type>> infer_dw(const std::any& any, std::span<const Type> in) {
  CHECK_OK(check_rate("sampled_dw", of(any).rate));
  CHECK_OK(expect_operands("sampled_dw", in, 5));
  CHECK_OK(expect_rank("sampled_dw", "left", in[1], 2));
  CHECK_OK(expect_rank("sampled_dw", "right", in[2], 2));
  const int64_t rows = sampled_rows(in[1].shape[0], of(any).rate);
  CHECK_OK(expect_shape("sampled_dw", "right", in[2], {rows, in[2].shape[1]}));
  CHECK_OK(expect_indices("sampled_dw", "rows", in[3], rows));
  CHECK_OK(expect_shape("sampled_dw", "weights", in[4], {rows}));
  CHECK_OK(expect_f32("sampled_dw", "weights", in[4]));
  CHECK_OK(expect_shape("sampled_dw", "accumulator", in[0], {in[1].shape[1], in[2].shape[1]}));
  CHECK_OK(expect_f32("sampled_dw", "accumulator", in[0]));
  return std::vector{Type{in[0].shape}};
}

// left: [k, n] f32, gathered.
Product describe_dw(float scale, const Matrix& left, const Matrix& right, const Operand& out, Term* term) {
  *term = {left, right, true, false, scale};
  return {.terms = {term, 1}, .codec = &kF32, .c = out.data, .m = out.shape[0], .n = out.shape[1], .accumulate = true};
}

int64_t gathered_bytes(int64_t rows, int64_t columns, double rate) {
  return (sampled_of(std::min(rows, kGranule), rate) * columns * 4 + 63) / 64 * 64;
}

int64_t workspace_dw(const std::any& any, std::span<const Type> in, std::span<const Type> out, Multiply multiply,
                     int threads) {
  const int64_t rows = in[1].shape[0], n = in[1].shape[1], k = sampled_of(std::min(rows, kGranule), of(any).rate);
  Term term;
  const Matrix left = Operand{nullptr, {k, n}, &kF32}.matrix();
  const Matrix right = Operand{nullptr, {k, in[2].shape[1]}, in[2].codec}.matrix();
  const Product product = describe_dw(1, left, right, {nullptr, out[0].shape, out[0].codec}, &term);
  return gathered_bytes(rows, n, of(any).rate) + gemm_workspace_bytes(multiply, product, threads);
}

void run_dw(const Call& call) noexcept {
  const SampleAttributes& a = of(call.attributes);
  const int64_t rows = call.in[1].shape[0], n = call.in[1].shape[1], each = sampled_of(kGranule, a.rate);
  auto* const gathered = reinterpret_cast<float*>(call.workspace.data());
  const auto rest = call.workspace.subspan(static_cast<size_t>(gathered_bytes(rows, n, a.rate)));
  for (int64_t granule = 0; granule < granules_of(rows); ++granule) {
    const int64_t at = granule * each, k = sampled_of(std::min(kGranule, rows - granule * kGranule), a.rate);
    call.run.threads.split(k, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        float* const to = gathered + i * n;
        const float* const dy = read_row(call.in[1], call.in[3].as<const int32_t>()[at + i], n, to);
        if (dy != to) std::copy(dy, dy + n, to);
        scale(to, call.in[4].as<const float>()[at + i], n);
      }
    });
    Matrix right = call.in[2].matrix();
    right.data += at * right.stride(), right.rows = k;
    Term term;
    const Matrix left = Operand{reinterpret_cast<std::byte*>(gathered), {k, n}, &kF32}.matrix();
    gemm(call.run.threads, call.run.multiply, describe_dw(a.scale, left, right, call.out[0], &term), rest);
  }
}

[[gnu::cold]] void reference_dw(const ReferenceCall& call) {
  const int64_t n = call.in[1].shape[1], columns = call.in[2].shape[1];
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0;
      for (int64_t r = 0; r < call.in[2].shape[0]; ++r)
        sum += call.in[1][std::llround(call.in[3][r]) * n + i] * call.in[4][r] * call.in[2][r * columns + j];
      call.out[0][i * columns + j] = call.in[0][i * columns + j] + of(call.attributes).scale * sum;
    }
}

Cost cost_dw(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(std::min(out[0].shape[0], out[0].shape[1]) < kNarrow ? ProductUse::narrow : ProductUse::weight_gradient) =
      2.0 * static_cast<double>(in[2].shape[0]) * static_cast<double>(out[0].shape.count());
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples_dw() {
  const SampleAttributes small{.rate = 0.3, .scale = 0.5f}, large{.rate = 0.1};
  const int64_t rows = sampled_rows(600, large.rate);
  std::vector<int32_t> many(static_cast<size_t>(rows));
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int32_t>(i < 51 ? i * 10 : 512 + i % 9);
  return {
      {small, {Type{{5, 7}}, Type{{10, 5}}, Type{{3, 7}}, Type{{3}, &kI32}, Type{{3}}}, {{}, {}, {}, {9, 2, 2}, {}}},
      {large,
       {Type{{6, 9}}, Type{{600, 6}, &kBf16}, Type{{rows, 9}, &kBf16}, Type{{rows}, &kI32}, Type{{rows}}},
       {{}, {}, {}, many, {}}}};
}

std::string text(const std::any& any) {
  return fmt::format("{{rate {}, stream {}, *{}}}", of(any).rate, of(any).stream, of(any).scale);
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kSampleRows = {.name = "sample_rows",
                        .infer = infer,
                        .text = text,
                        .workspace = workspace,
                        .cost = pointwise_cost,
                        .reference = reference,
                        .run = run,
                        .samples = samples};
const Op kSampledDw = {.name = "sampled_dw",
                       .infer = infer_dw,
                       .text = text,
                       .workspace = workspace_dw,
                       .cost = cost_dw,
                       .reference = reference_dw,
                       .run = run_dw,
                       .samples = samples_dw,
                       .in_place = kAccumulates};

}  // namespace thimble
