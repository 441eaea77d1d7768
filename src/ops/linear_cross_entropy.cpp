// linear_cross_entropy: the head and the loss together, so that logits exist only a tile of the vocabulary at a time.
//
//   Paper   Wijmans et al. 2024, "Cut Your Losses", arXiv:2411.09009 (the loss from tiles);
//           Milakov and Gimelshein 2018, arXiv:1805.02867 (softmax on the way)
//   nll_i   lse_i - x_i.w[target_i],  lse_i = log sum_v exp(x_i.w_v);  0 where the target is -1
//   dx_i    scale (sum_v p_iv w_v - w[target_i]): gathered in the same pass over the vocabulary,
//           rescaled as the running maximum grows, as attention does with its values
//   dw_v    scale sum_i (p_iv - [v = target_i]) x_i: a second pass, since p needs the whole lse.
//           Where w is the table of the embedding too, the rows of that gradient are added after
//           each granule of tokens, so that the sum does not depend on how many granules go at
//           once; it is then made at the end of the backward pass.
//
// Logits may be kept (the fourth output, f32, rows that have a target one after another) where memory allows: the
// second pass then reads them instead of making them again, which gives the same bits.
//
// Rows without a target cost nothing. Nothing is skipped for being small: the gradient is exact.
#include <cmath>
#include <limits>

#include "kernels/gemm.h"
#include "kernels/math.h"
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kVocabTile = 1152;  // whole panels of 48 and 24 columns

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("linear_cross_entropy", in, 4));
  CHECK_OK(expect_rank("linear_cross_entropy", "x", in[0], 2));
  CHECK_OK(expect_rank("linear_cross_entropy", "w", in[1], 2));
  CHECK_OK(expect_shape("linear_cross_entropy", "w", in[1], {in[1].shape[0], in[0].shape[1]}));
  CHECK_OK(expect_shape("linear_cross_entropy", "targets", in[2], {in[0].shape[0]}));
  CHECK_OK(expect_shape("linear_cross_entropy", "scale", in[3], {1}));
  const Type row{{in[0].shape[0]}, &kF32, in[0].extent};
  return std::vector{row, in[0], row, Type{{in[0].shape[0], in[1].shape[0]}, &kF32, in[0].extent}};
}

Operand rows_of(const Operand& operand, int64_t row, int64_t rows) {
  const int64_t columns = operand.shape[1];
  return {operand.data ? operand.data + row * operand.codec->bytes(columns) : nullptr, {rows, columns}, operand.codec};
}

Product describe(const Term& term, std::byte* c, int64_t m, int64_t n, bool accumulate) {
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
  int32_t *index = nullptr, *target = nullptr;
  float* buffers = nullptr;  // one row a thread
  std::span<std::byte> product;
  int64_t size = 0;

  Memory(const Type& x_type, const Type& w_type, Multiply multiply, int threads, std::byte* base)
      : rows(std::min(kGranule, x_type.shape[0])),
        tile(std::min(kVocabTile, w_type.shape[0])),
        width(x_type.shape[1]),
        codec(x_type.codec) {
    const auto take = [&](int64_t bytes) {
      std::byte* const at = base ? base + size : nullptr;
      size += (bytes + 63) / 64 * 64;
      return at;
    };
    x = take(codec->bytes(rows * width));
    logits = reinterpret_cast<float*>(take(4 * rows * tile));
    weights = take(codec->bytes(rows * tile));
    dx = reinterpret_cast<float*>(take(4 * rows * width));
    largest = reinterpret_cast<float*>(take(12 * rows));
    sums = largest + rows;
    picked = sums + rows;
    lanes = reinterpret_cast<float*>(take(4 * kSumLanes * rows));
    index = reinterpret_cast<int32_t*>(take(8 * rows));
    target = index + rows;
    buffers = reinterpret_cast<float*>(take(4 * threads * width));
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

Type type_of(const Operand& operand) { return {operand.shape, operand.codec}; }

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply multiply, int threads) {
  return Memory(in[0], in[1], multiply, threads, nullptr).size;
}

// Gathers rows with a target from [row, end) until there are `most`; returns how many, and moves `row` on.
int64_t gather(const Operand& x, const int32_t* targets, int64_t& row, int64_t end, int64_t most,
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
Tile tile_at(const Memory& m, const Operand& kept, int64_t rank, int64_t first, int64_t columns) {
  if (!kept) return {first, columns, m.logits, columns};
  const int64_t vocab = kept.shape[1];
  return {first, columns, kept.as<float>() + rank * vocab + first, vocab};
}

void make_logits(const Call& call, const Memory& m, const Operand& w, int64_t count, const Tile& tile) noexcept {
  const Term term{{m.codec, m.x, count, m.width, 0}, rows_of(w, tile.first, tile.columns).matrix(), false, true, 1};
  Product product = describe(term, reinterpret_cast<std::byte*>(tile.logits), count, tile.columns, false);
  product.row_bytes = 4 * tile.stride;
  gemm(call.run.threads, call.run.multiply, product, m.product);
}

// Takes a tile of logits into the running softmax of one row; makes exp(logit - max) the row's weights.
void take_tile(const Memory& m, int64_t r, const Tile& tile, bool wants_dx) noexcept {
  const float* const logits = tile.logits + r * tile.stride;
  if (const int64_t t = m.target[r] - tile.first; t >= 0 && t < tile.columns) m.picked[r] = logits[t];
  const float largest = std::max(m.largest[r], max(logits, tile.columns));
  const float shrink = exp_f32(m.largest[r] - largest);
  float* const lanes = m.lanes + r * kSumLanes;
  if (shrink != 1) scale(lanes, shrink, kSumLanes);
  m.largest[r] = largest;
  if (wants_dx && shrink != 1) scale(m.dx + r * m.width, shrink, m.width);
  constexpr int64_t kPiece = 16 * kSumLanes;  // stays in registers and the first-level cache
  alignas(64) float e[kPiece];
  for (int64_t i = 0; i < tile.columns; i += kPiece) {
    const int64_t count = std::min(kPiece, tile.columns - i);
    exp_sum_lanes(logits + i, largest, count, lanes, e);
    if (wants_dx) encode_run(*m.codec, e, m.weights + m.codec->bytes(r * tile.columns + i), count);
  }
}

// Loss and dx of the `count` rows that have been gathered, `rank` of such rows being before them.
void run_granule(const Call& call, const Memory& m, int64_t count, int64_t rank) noexcept {
  const Operand& w = call.in[1];
  const bool wants_dx = bool(call.out[1]);
  const int64_t vocab = w.shape[0];
  std::fill(m.largest, m.largest + count, -std::numeric_limits<float>::infinity());
  std::fill(m.lanes, m.lanes + count * kSumLanes, 0.0f);
  std::fill(m.dx, m.dx + count * m.width, 0.0f);
  for (int64_t first = 0; first < vocab; first += m.tile) {
    const Tile tile = tile_at(m, call.out[3], rank, first, std::min(m.tile, vocab - first));
    make_logits(call, m, w, count, tile);
    call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) take_tile(m, r, tile, wants_dx);
    });
    if (!wants_dx) continue;
    const Term values{
        {m.codec, m.weights, count, tile.columns, 0}, rows_of(w, first, tile.columns).matrix(), false, false, 1};
    gemm(call.run.threads, call.run.multiply,
         describe(values, reinterpret_cast<std::byte*>(m.dx), count, m.width, true), m.product);
  }
}

void finish_row(const Call& call, const Memory& m, int64_t r, float* buffer) noexcept {
  const int64_t row = m.index[r];
  m.sums[r] = fold_lanes(m.lanes + r * kSumLanes);
  const float lse = m.largest[r] + std::log(m.sums[r]);
  call.out[0].as<float>()[row] = lse - m.picked[r];
  if (call.out[2]) call.out[2].as<float>()[row] = lse;
  if (!call.out[1]) return;
  float* const dx = m.dx + r * m.width;
  scale(dx, 1 / m.sums[r], m.width);
  add_scaled(dx, read_row(call.in[1], m.target[r], m.width, buffer), -1, m.width);
  scale(dx, call.in[3].as<const float>()[0], m.width);
  write_row(call.out[1], row, m.width, dx);
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[0].shape[0];
  const int threads = call.run.threads.count();
  const Memory m(type_of(call.in[0]), type_of(call.in[1]), call.run.multiply, threads, call.workspace.data());
  for (int64_t r = 0; r < rows; ++r) {
    call.out[0].as<float>()[r] = 0;
    if (call.out[2]) call.out[2].as<float>()[r] = 0;
  }
  if (call.out[1]) std::memset(call.out[1].data, 0, static_cast<size_t>(call.out[1].codec->bytes(rows * m.width)));
  for (int64_t row = 0, rank = 0; row < rows;) {
    const int64_t count = gather(call.in[0], call.in[2].as<const int32_t>(), row, rows, m.rows, m);
    if (count == 0) continue;
    run_granule(call, m, count, rank);
    rank += count;
    call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t r = begin; r < end; ++r) finish_row(call, m, r, m.buffers + thread * m.width);
    });
  }
}

double log_sum_exp(const ReferenceOperand& x, const ReferenceOperand& w, int64_t i, std::vector<double>& logits) {
  const int64_t vocab = w.shape[0], width = w.shape[1];
  logits.assign(static_cast<size_t>(vocab), 0);
  double sum = 0;
  for (int64_t v = 0; v < vocab; ++v) {
    for (int64_t d = 0; d < width; ++d) logits[static_cast<size_t>(v)] += x[i * width + d] * w[v * width + d];
    sum += std::exp(logits[static_cast<size_t>(v)]);
  }
  return std::log(sum);
}

void reference(const ReferenceCall& call) {
  const auto& x = call.in[0];
  const auto& w = call.in[1];
  const int64_t width = w.shape[1];
  std::vector<double> logits;
  int64_t rank = 0;
  if (call.out[3]) std::fill(call.out[3].data->begin(), call.out[3].data->end(), 0.0);
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    const int64_t target = static_cast<int64_t>(call.in[2][i]);
    const double lse = target < 0 ? 0 : log_sum_exp(x, w, i, logits);
    call.out[0][i] = target < 0 ? 0 : lse - logits[static_cast<size_t>(target)];
    if (call.out[2]) call.out[2][i] = lse;
    if (call.out[3] && target >= 0)
      std::copy(logits.begin(), logits.end(), call.out[3].data->begin() + rank++ * w.shape[0]);
    if (!call.out[1]) continue;
    for (int64_t d = 0; d < width; ++d) {
      double sum = target < 0 ? 0 : -w[target * width + d];
      for (int64_t v = 0; target >= 0 && v < w.shape[0]; ++v)
        sum += std::exp(logits[static_cast<size_t>(v)] - lse) * w[v * width + d];
      call.out[1][i * width + d] = call.in[3][0] * sum;
    }
  }
}

// The loss is the root: sum(nll) * scale. dx and lse were asked for when the node was made (see models/build).
void gradient(Backward& backward, const Node& node) {
  Graph& graph = backward.graph();
  const ValueId x = node.in[0], w = node.in[1];
  if (graph.value(w).role == Role::parameter && !graph.user(kEmbedding, 1, w))
    backward.set_accumulator(
        w, graph.emit(kLinearCrossEntropyDw, {},
                      {backward.accumulator(w), x, w, node.in[2], node.in[3], node.out[2], kNone, kNone, node.out[3]},
                      "gradient." + graph.value(w).name + ".head"));
  if (backward.wanted(x)) backward.add(x, node.out[1]);
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const double products = out.size() > 1 && out[1].codec ? 2 : 1;
  const auto weights = static_cast<double>(in[1].shape.count());
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[1].codec->block > 1 ? products * weights : 0};
  cost.of(ProductUse::head) = 2.0 * products * static_cast<double>(in[0].shape[0]) * weights;
  return cost;
}

std::vector<Sample> samples() {
  return {{{}, {Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}}, {{}, {}, {3, -1, 10, 0, 0}}},
          {{}, {Type{{3, 8}}, Type{{1500, 8}}, Type{{3}, &kI32}, Type{{1}}}, {{}, {}, {1400, 3, 1024}}}};
}

// ---- dw ----

Result<std::vector<Type>> infer_dw(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("linear_cross_entropy_dw", in, 9));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "accumulator", in[0], in[2].shape));
  CHECK_OK(expect_rank("linear_cross_entropy_dw", "w", in[2], 2));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "x", in[1],
                        {in[3].shape.rows() * in[3].shape.columns(), in[2].shape[1]}));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "targets", in[3], {in[1].shape[0]}));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "scale", in[4], {1}));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "lse", in[5], {in[1].shape[0]}));
  if (!absent(in[6])) {
    CHECK_OK(expect_shape("linear_cross_entropy_dw", "ids", in[6], {in[1].shape[0]}));
    CHECK_OK(expect_shape("linear_cross_entropy_dw", "dy", in[7], in[1].shape));
  }
  if (!absent(in[8]))
    CHECK_OK(expect_shape("linear_cross_entropy_dw", "logits", in[8], {in[1].shape[0], in[2].shape[0]}));
  return std::vector{Type{in[0].shape, &kF32}};
}

int64_t workspace_dw(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply multiply, int threads) {
  return Memory(in[1], in[2], multiply, threads, nullptr).size;
}

// One tile of the vocabulary, of the rows that have been gathered.
void add_tile(const Call& call, const Memory& m, int64_t count, const Tile& tile) noexcept {
  if (!call.in[8]) make_logits(call, m, call.in[2], count, tile);
  const float by = call.in[4].as<const float>()[0];
  call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
    alignas(64) float p[kVocabTile];
    for (int64_t r = begin; r < end; ++r) {
      softmax_row(tile.logits + r * tile.stride, m.sums[r], by, tile.columns, p);
      if (const int64_t t = m.target[r] - tile.first; t >= 0 && t < tile.columns) p[t] -= by;
      encode_run(*m.codec, p, m.weights + m.codec->bytes(r * tile.columns), tile.columns);
    }
  });
  const Term values{{m.codec, m.weights, count, tile.columns, 0}, {m.codec, m.x, count, m.width, 0}, true, false, 1};
  gemm(call.run.threads, call.run.multiply,
       describe(values, call.out[0].data + tile.first * m.width * 4, tile.columns, m.width, true), m.product);
}

void run_dw(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], vocab = call.in[2].shape[0];
  const Memory m(type_of(call.in[1]), type_of(call.in[2]), call.run.multiply, call.run.threads.count(),
                 call.workspace.data());
  for (int64_t granule = 0, rank = 0; granule < rows; granule += kGranule) {
    int64_t row = granule;
    const int64_t end = std::min(rows, granule + kGranule);
    const int64_t count = gather(call.in[1], call.in[3].as<const int32_t>(), row, end, kGranule, m);
    for (int64_t r = 0; r < count; ++r) m.sums[r] = call.in[5].as<const float>()[m.index[r]];
    for (int64_t first = 0; count > 0 && first < vocab; first += m.tile)
      add_tile(call, m, count, tile_at(m, call.in[8], rank, first, std::min(m.tile, vocab - first)));
    rank += count;
    if (call.in[6])
      add_rows(call.run.threads, call.out[0].as<float>(), call.in[6].as<const int32_t>(), call.in[7], granule, end,
               m.width, m.buffers);
  }
}

void reference_dw(const ReferenceCall& call) {
  const auto& x = call.in[1];
  const auto& w = call.in[2];
  const int64_t width = w.shape[1];
  std::vector<double> logits;
  int64_t rank = 0;
  for (int64_t i = 0; i < w.shape.count(); ++i) call.out[0][i] = call.in[0][i];
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    const int64_t target = static_cast<int64_t>(call.in[3][i]);
    if (target < 0) continue;
    log_sum_exp(x, w, i, logits);
    for (int64_t v = 0; call.in[8] && v < w.shape[0]; ++v)
      logits[static_cast<size_t>(v)] = call.in[8][rank * w.shape[0] + v];
    ++rank;
    for (int64_t v = 0; v < w.shape[0]; ++v) {
      const double p = std::exp(logits[static_cast<size_t>(v)] - call.in[5][i]) - (v == target ? 1 : 0);
      for (int64_t d = 0; d < width; ++d) call.out[0][v * width + d] += call.in[4][0] * p * x[i * width + d];
    }
  }
  for (int64_t i = 0; call.in[6] && i < x.shape[0]; ++i)
    for (int64_t d = 0; d < width; ++d)
      call.out[0][static_cast<int64_t>(call.in[6][i]) * width + d] += call.in[7][i * width + d];
}

Cost cost_dw(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto weights = static_cast<double>(in[2].shape.count());
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[2].codec->block > 1 ? weights : 0};
  cost.of(ProductUse::head_gradient) = (absent(in[8]) ? 4.0 : 2.0) * static_cast<double>(in[1].shape[0]) * weights;
  return cost;
}

std::vector<Sample> samples_dw() {
  const Type none{.codec = nullptr};
  return {
      {{},
       {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, none, none, none},
       {{}, {}, {}, {3, -1, 10, 0, 0}}},
      {{},
       {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, none, none, Type{{5, 11}}},
       {{}, {}, {}, {3, -1, 10, 0, 0}}},
      {{},
       {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, Type{{5}, &kI32},
        Type{{5, 7}}, none},
       {{}, {}, {}, {3, -1, -1, 0, 0}, {}, {}, {2, 2, 10, 0, 7}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kLinearCrossEntropy = {.name = "linear_cross_entropy",
                                .infer = infer,
                                .gradient = gradient,
                                .workspace = workspace,
                                .cost = cost,
                                .reference = reference,
                                .run = run,
                                .samples = samples,
                                .alone = true};
const Op kLinearCrossEntropyDw = {.name = "linear_cross_entropy_dw",
                                  .infer = infer_dw,
                                  .workspace = workspace_dw,
                                  .cost = cost_dw,
                                  .reference = reference_dw,
                                  .run = run_dw,
                                  .samples = samples_dw,
                                  .in_place = kAccumulates,
                                  .alone = true};

}  // namespace thimble
