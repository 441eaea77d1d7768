// What the two passes of linear_cross_entropy share: granules of rows that have a target, gathered, and tiles of their
// logits.
#pragma once

#include <cmath>
#include <optional>

#include "kernels/gemm.h"
#include "ops/backward.h"
#include "ops/negligible.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble::cross_entropy {

constexpr int64_t kVocabTile = 1152;  // whole panels of 48 and 24 columns

inline const CrossEntropyAttributes& of(const std::any& attributes) {
  return *std::any_cast<CrossEntropyAttributes>(&attributes);
}

inline Result<void> expect_terms(std::string_view op, const CrossEntropyAttributes& a) {
  if (a.terms.uniform > 0 && (a.cap > 0 || a.negligible > 0))
    return fail(ErrorCode::unsupported,
                "{}: a loss with the mean of all logits (label smoothing) has a gradient only where logits have no cap "
                "and none is left out",
                op);
  return {};
}

// Of columns, where negligible ones are left out, for predictions (docs/methods/skip_negligible.md).
inline double kept_share(const std::any& attributes) { return of(attributes).negligible > 0 ? 0.3 : 1; }

inline std::string text(const std::any& attributes) {
  const CrossEntropyAttributes& a = of(attributes);
  std::string inside = a.negligible > 0 ? fmt::format("negligible {}", a.negligible) : "";
  const auto add = [&](std::string_view name, float value, float usual) {
    if (value != usual) inside += fmt::format("{}{} {}", inside.empty() ? "" : ", ", name, value);
  };
  add("cap", a.cap, 0);
  add("target", a.terms.target, 1);
  add("uniform", a.terms.uniform, 0);
  add("square", a.terms.square, 0);
  return inside.empty() ? "" : "{" + inside + "}";
}

inline Operand rows_of(const Operand& operand, int64_t row, int64_t rows) {
  const int64_t columns = operand.shape[1];
  return {operand.data ? operand.data + row * operand.codec->bytes(columns) : nullptr, {rows, columns}, operand.codec};
}

inline Product describe(const Term& term, std::byte* c, int64_t m, int64_t n, bool accumulate) {
  return {.terms = {&term, 1}, .codec = &kF32, .c = c, .m = m, .n = n, .accumulate = accumulate};
}

// One granule of rows that have targets, gathered, and a tile of logits.
struct Memory {
  int64_t rows, tile, width;
  const Codec* codec;
  std::byte* x = nullptr;        // [rows, width] in x's codec
  float* logits = nullptr;       // [rows, tile]
  std::byte* weights = nullptr;  // the same in x's codec
  float* dx = nullptr;           // [rows, width]
  float *largest = nullptr, *sums = nullptr, *picked = nullptr;
  float* lanes = nullptr;  // [rows, kSumLanes]: the running sums
  float* mean = nullptr;   // [width + 1]: of the rows of w, and of the bias; where uniform > 0
  int32_t *index = nullptr, *target = nullptr;
  float* buffers = nullptr;  // one row a thread
  Negligible negligible;
  std::byte* together = nullptr;  // rows of w, or of its gradient, that are not negligible
  std::span<std::byte> product;
  int64_t size = 0;

  Memory(const CrossEntropyAttributes& attributes, const Type& x_type, const Type& w_type, Multiply multiply,
         int threads, std::byte* base)
      : rows(std::min(kGranule, x_type.shape[0])),
        tile(std::min(kVocabTile, w_type.shape[0])),
        width(x_type.shape[1]),
        codec(x_type.codec) {
    const auto take = [&](int64_t bytes) {
      std::byte* const at = base ? base + size : nullptr;
      size += (bytes + 63) / 64 * 64;
      return at;
    };
    const auto behind = [&](auto* at) { return base ? at + rows : at; };
    x = take(codec->bytes(rows * width));
    logits = reinterpret_cast<float*>(take(4 * rows * tile));
    weights = take(codec->bytes(rows * tile));
    dx = reinterpret_cast<float*>(take(4 * rows * width));
    largest = reinterpret_cast<float*>(take(12 * rows));
    sums = behind(largest), picked = behind(sums);
    lanes = reinterpret_cast<float*>(take(4 * kSumLanes * rows));
    index = reinterpret_cast<int32_t*>(take(8 * rows));
    target = behind(index);
    buffers = reinterpret_cast<float*>(take(4 * threads * width));
    if (attributes.terms.uniform > 0) mean = reinterpret_cast<float*>(take(4 * (width + 1)));
    if (attributes.negligible > 0) {
      negligible = Negligible(take(Negligible::bytes(tile, threads)), tile, threads);
      together = take(std::max(w_type.codec->bytes(width), 4 * width) * Negligible::most(tile));
    }
    int64_t most = 0;
    const Matrix xs{codec, nullptr, rows, width, 0}, ws{w_type.codec, nullptr, tile, width, 0},
        ps{codec, nullptr, rows, tile, 0};
    for (const Term& t : {Term{xs, ws, false, true, 1}, Term{ps, ws, false, false, 1}, Term{ps, xs, true, false, 1}}) {
      const int64_t m = t.a_transposed ? t.a.columns : t.a.rows, n = t.b_transposed ? t.b.rows : t.b.columns;
      most = std::max(most, gemm_workspace_bytes(multiply, describe(t, nullptr, m, n, false), threads));
    }
    std::byte* const at = take(most);
    product = {at, static_cast<size_t>(most)};
  }
};

inline Type type_of(const Operand& operand) { return {operand.shape, operand.codec}; }

// Where the losses of rows are used further, each row's gradient is what comes back to it, times the node's own scale;
// upstream is kNone where they are minimised as they are.
struct RowScale {
  ValueId scale, dx;  // f32 [1] or [t]; [t, d]
};
inline RowScale scaled_rows(Backward& backward, ValueId upstream, ValueId scale, ValueId dx, ValueId x, ValueId loss) {
  if (upstream == kNone) return {scale, dx};
  Graph& graph = backward.graph();
  PointwiseBuilder rows;
  const Expr each_dx = rows.tensor(), by = rows.column();
  rows.output(each_dx * by, graph.value(dx).type.codec);
  dx = graph.emit(kPointwise, rows.attributes(), {dx, upstream}, backward.name(x) + ".rows");
  PointwiseBuilder each;
  const Expr of_row = each.tensor(), of_all = each.scalar();
  each.output(of_row * of_all);
  return {graph.emit(kPointwise, each.attributes(), {upstream, scale}, backward.name(loss) + ".scaled"), dx};
}

// Gathers rows with a target from [row, end) until there are `most`; returns how many, and moves `row` on.
inline int64_t gather(const Operand& x, const int32_t* targets, int64_t& row, int64_t end, int64_t most,
                      const Memory& m) noexcept {
  const int64_t bytes = m.codec->bytes(m.width);
  int64_t count = 0;
  for (; row < end && count < most; ++row) {
    if (targets[row] < 0) continue;
    std::memcpy(m.x + count * bytes, x.data + row * bytes, static_cast<size_t>(bytes));
    m.index[count] = static_cast<int32_t>(row);
    m.target[count++] = targets[row];
  }
  return count;
}

// A tile of logits of all gathered rows, in `logits`: rows `stride` floats apart.
struct Tile {
  int64_t first, columns;  // of the vocabulary
  float* logits;
  int64_t stride;
};

// Where the logits of a tile are: in the kept ones, from the row of that rank on, or in the workspace.
inline Tile tile_at(const Memory& m, const Operand& kept, int64_t rank, int64_t first, int64_t columns) {
  if (!kept) return {first, columns, m.logits, columns};
  const int64_t vocab = kept.shape[1];
  return {first, columns, kept.as<float>() + rank * vocab + first, vocab};
}

// Logits become cap tanh(logit / cap) unless cap is 0, and are divided by the temperature.
struct LogitShape {
  float cap = 0, temperature = 1;
};

// bias: [vocab], or absent.
inline void make_logits(const Call& call, const Memory& m, const Operand& w, const Operand& bias, int64_t count,
                        const Tile& tile, const LogitShape& shape) noexcept {
  const Term term{{m.codec, m.x, count, m.width, 0}, rows_of(w, tile.first, tile.columns).matrix(), false, true, 1};
  Product product = describe(term, reinterpret_cast<std::byte*>(tile.logits), count, tile.columns, false);
  product.row_bytes = 4 * tile.stride;
  gemm(call.run.threads, call.run.multiply, product, m.product);
  if (!bias && shape.cap == 0 && shape.temperature == 1) return;
  call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* const row = tile.logits + r * tile.stride;
      if (bias) add_scaled(row, bias.as<const float>() + tile.first, 1, tile.columns);
      if (shape.cap > 0) shape_scores(row, {.cap = shape.cap}, tile.columns);
      if (shape.temperature != 1) scale(row, 1 / shape.temperature, tile.columns);
    }
  });
}

// Of a row's loss by its log-sum-exp.
inline float lse_slope(const CrossEntropyAttributes& a, float lse) {
  return a.terms.square > 0 ? 1 + 2 * a.terms.square * lse : 1;
}

// p [columns] = scale d loss / d logit of row r of a tile of a vocabulary of this size, whose log-sum-exp is in m.sums,
// before the cap of logits. marks: of columns that are not negligible, or nullptr.
inline void logit_gradients(const Call& call, const Memory& m, const Tile& tile, int64_t vocab, int64_t r, float scaled,
                            float* p, uint8_t* marks) noexcept {
  const CrossEntropyAttributes& a = call.as<CrossEntropyAttributes>();
  const float by = std::abs(scaled);
  const float* const logits = tile.logits + r * tile.stride;
  softmax_row(logits, m.sums[r], by, tile.columns, p);
  if (const float slope = lse_slope(a, m.sums[r]); slope != 1) scale(p, slope, tile.columns);
  if (marks) mark_at_least(p, by * a.negligible, tile.columns, marks);
  if (a.terms.uniform > 0)
    for (int64_t v = 0; v < tile.columns; ++v) p[v] -= by * a.terms.uniform / static_cast<float>(vocab);
  if (const int64_t t = m.target[r] - tile.first; t >= 0 && t < tile.columns) {
    p[t] -= a.terms.target * by;
    if (marks) marks[t] = 1;
  }
  if (a.cap > 0) multiply_cap_slope(p, logits, a.cap, tile.columns);
  if (scaled < 0) scale(p, -1, tile.columns);
}

// Where negligible columns are left out, and are enough of them: the others, which `weights` then has alone.
inline std::optional<std::span<const int32_t>> kept_columns(const Call& call, const Memory& m,
                                                            Matrix& weights) noexcept {
  if (!m.negligible) return {};
  const auto kept = m.negligible.keep(weights.columns);
  const auto count = static_cast<int64_t>(kept.size());
  if (count > Negligible::most(weights.columns)) return {};
  compact_rows(call.run.threads, weights, kept);
  weights.row_bytes = weights.stride();
  weights.columns = count;
  return kept;
}

// The loss of a row by its logits.
inline double loss_of(const CrossEntropyAttributes& a, double lse, std::span<const double> logits, int64_t target) {
  double sum = 0;
  for (double logit : logits) sum += logit;
  return lse - double{a.terms.target} * logits[static_cast<size_t>(target)] -
         double{a.terms.uniform} * sum / static_cast<double>(logits.size()) + double{a.terms.square} * lse * lse;
}
// Its gradient by logit v, in whose softmax the logit has the part p.
inline double loss_slope(const CrossEntropyAttributes& a, double lse, double p, bool is_target, int64_t vocab) {
  return (1 + 2 * double{a.terms.square} * lse) * p - (is_target ? double{a.terms.target} : 0) -
         double{a.terms.uniform} / static_cast<double>(vocab);
}

// Slope of the cap of logits where it is `logit`.
inline double cap_slope(double cap, double logit) { return cap > 0 ? 1 - logit * logit / (cap * cap) : 1; }

inline double log_sum_exp(const ReferenceOperand& x, const ReferenceOperand& w, const ReferenceOperand& bias,
                          double cap, int64_t i, std::vector<double>& logits, double temperature = 1) {
  const int64_t vocab = w.shape[0], width = w.shape[1];
  logits.assign(static_cast<size_t>(vocab), 0);
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    double& logit = logits[static_cast<size_t>(v)];
    for (int64_t d = 0; d < width; ++d) logit += x[i * width + d] * w[v * width + d];
    if (bias) logit += bias[v];
    if (cap > 0) logit = cap * std::tanh(logit / cap);
    logit /= temperature;
    sum += std::exp(logit);
  }
  return std::log(sum);
}

}  // namespace thimble::cross_entropy
