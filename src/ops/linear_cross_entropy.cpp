// linear_cross_entropy: the head and the loss together, so that logits exist only a tile of the vocabulary at a time.
//
//   Paper   Wijmans et al. 2024, "Cut Your Losses", arXiv:2411.09009 (the loss from tiles);
//           Milakov and Gimelshein 2018, arXiv:1805.02867 (softmax on the way)
//   loss_i  lse_i - x_i.w[target_i],  lse_i = log sum_v exp(x_i.w_v);  0 where the target is -1. In general, with the
//           attributes of the same names: lse_i - target x_i.w[target_i] - uniform mean_v x_i.w_v + square lse_i^2
//   dx_i    scale ((1 + 2 square lse_i) sum_v p_iv w_v - target w[target_i] - uniform mean_v w_v): gathered in the same
//           pass over the vocabulary, rescaled as the running maximum grows, as attention does with its values
//   dw_v    scale sum_i ((1 + 2 square lse_i) p_iv - target [v = target_i] - uniform / vocabulary) x_i: a second pass,
//           since p needs the whole lse. Where w is the table of the embedding too, the rows of that gradient are added
//           after each granule of tokens, so that the sum does not depend on how many granules go at once; it is then
//           made at the end of the backward pass.
//
// Logits may be kept (the fourth output, f32, rows that have a target one after another) where memory allows: the
// second pass then reads them instead of making them again, which gives the same bits.
//
// Rows without a target cost nothing. Nothing is left out for being small unless `negligible` says so (negligible.h);
// in the first pass, what is left out is small beside the sum so far, and so beside the whole.
#include <cmath>
#include <limits>

#include "kernels/math.h"
#include "ops/cross_entropy_parts.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

using namespace cross_entropy;

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("linear_cross_entropy", in, 5));
  CHECK_OK(expect_terms("linear_cross_entropy", of(any)));
  CHECK_OK(expect_rank("linear_cross_entropy", "x", in[0], 2));
  CHECK_OK(expect_elements("linear_cross_entropy", "x", in[0]));
  CHECK_OK(expect_rank("linear_cross_entropy", "w", in[1], 2));
  CHECK_OK(expect_shape("linear_cross_entropy", "w", in[1], {in[1].shape[0], in[0].shape[1]}));
  CHECK_OK(expect_indices("linear_cross_entropy", "targets", in[2], in[0].shape[0]));
  CHECK_OK(expect_shape("linear_cross_entropy", "scale", in[3], {1}));
  CHECK_OK(expect_f32("linear_cross_entropy", "scale", in[3]));
  if (!absent(in[4])) {
    CHECK_OK(expect_shape("linear_cross_entropy", "bias", in[4], {in[1].shape[0]}));
    CHECK_OK(expect_f32("linear_cross_entropy", "bias", in[4]));
  }
  const Type row{{in[0].shape[0]}, &kF32, in[0].extent};
  return std::vector{row, in[0], row, Type{{in[0].shape[0], in[1].shape[0]}, &kF32, in[0].extent}};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  return Memory(of(any), in[0], in[1], multiply, threads, nullptr).size;
}

// Of columns whose weight is at least so much of a row's sum so far; nullptr where none is left out.
struct Marks {
  float negligible;
  uint8_t* of_column;
};

// Takes a tile of logits into the running softmax of one row; makes exp(logit - max) the row's weights.
void take_tile(const Memory& m, int64_t r, const Tile& tile, float cap, bool wants_dx, const Marks& marks) noexcept {
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
    if (!wants_dx) continue;
    if (marks.of_column) mark_at_least(e, marks.negligible * fold_lanes(lanes), count, marks.of_column + i);
    if (cap > 0) multiply_cap_slope(e, logits + i, cap, count);
    encode_run(*m.codec, e, m.weights + m.codec->bytes(r * tile.columns + i), count);
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
    make_logits(call, m, w, call.in[4], count, tile, {call.as<CrossEntropyAttributes>().cap});
    const float negligible = call.as<CrossEntropyAttributes>().negligible;
    if (m.negligible) m.negligible.clear();
    call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
      const Marks marks{negligible, m.negligible ? m.negligible.marks(thread) : nullptr};
      for (int64_t r = begin; r < end; ++r)
        take_tile(m, r, tile, call.as<CrossEntropyAttributes>().cap, wants_dx, marks);
    });
    if (!wants_dx) continue;
    Term values{
        {m.codec, m.weights, count, tile.columns, 0}, rows_of(w, first, tile.columns).matrix(), false, false, 1};
    if (const auto kept = kept_columns(call, m, values.a)) {
      const auto bytes = static_cast<size_t>(w.codec->bytes(m.width));
      for (size_t i = 0; i < kept->size(); ++i) std::memcpy(m.together + i * bytes, values.b.row((*kept)[i]), bytes);
      values.b = {w.codec, m.together, values.a.columns, m.width, 0};
    }
    if (values.a.columns > 0)
      gemm(call.run.threads, call.run.multiply,
           describe(values, reinterpret_cast<std::byte*>(m.dx), count, m.width, true), m.product);
  }
}

// m.mean becomes the means of the rows of w and of the bias. Threads share the columns, so that rows are added in
// order.
void find_mean(const Call& call, const Memory& m) noexcept {
  const Operand& w = call.in[1];
  const int64_t vocab = w.shape[0];
  std::fill(m.mean, m.mean + m.width, 0.0f);
  call.run.threads.divide(m.width, 64, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t v = 0; v < vocab; ++v)
      add_scaled(m.mean + begin, read_row(w, v, m.width, m.buffers + thread * m.width) + begin, 1, end - begin);
  });
  scale(m.mean, 1 / static_cast<float>(vocab), m.width);
  double bias = 0;
  for (int64_t v = 0; call.in[4] && v < vocab; ++v) bias += double{call.in[4].as<const float>()[v]};
  m.mean[m.width] = static_cast<float>(bias / static_cast<double>(vocab));
}

// The mean of a row's logits.
float mean_logit(const Memory& m, int64_t r, float* buffer) noexcept {
  return dot(read_row({m.x, {m.rows, m.width}, m.codec}, r, m.width, buffer), m.mean, m.width) + m.mean[m.width];
}

void finish_row(const Call& call, const Memory& m, int64_t r, float* buffer) noexcept {
  const CrossEntropyAttributes& a = call.as<CrossEntropyAttributes>();
  const int64_t row = m.index[r];
  m.sums[r] = fold_lanes(m.lanes + r * kSumLanes);
  const float lse = m.largest[r] + std::log(m.sums[r]);
  float loss = lse - (a.terms.target == 1 ? m.picked[r] : a.terms.target * m.picked[r]);
  if (a.terms.uniform > 0) loss -= a.terms.uniform * mean_logit(m, r, buffer);
  if (a.terms.square > 0) loss += a.terms.square * lse * lse;
  call.out[0].as<float>()[row] = loss;
  if (call.out[2]) call.out[2].as<float>()[row] = lse;
  if (!call.out[1]) return;
  float* const dx = m.dx + r * m.width;
  scale(dx, lse_slope(a, lse) / m.sums[r], m.width);
  float slope = a.terms.target;
  if (a.cap > 0) multiply_cap_slope(&slope, &m.picked[r], a.cap, 1);
  if (a.terms.uniform > 0) add_scaled(dx, m.mean, -a.terms.uniform, m.width);
  add_scaled(dx, read_row(call.in[1], m.target[r], m.width, buffer), -slope, m.width);
  scale(dx, call.in[3].as<const float>()[0], m.width);
  write_row(call.out[1], row, m.width, dx);
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[0].shape[0];
  const int threads = call.run.threads.count();
  const Memory m(of(call.attributes), type_of(call.in[0]), type_of(call.in[1]), call.run.multiply, threads,
                 call.workspace.data());
  for (int64_t r = 0; r < rows; ++r) {
    call.out[0].as<float>()[r] = 0;
    if (call.out[2]) call.out[2].as<float>()[r] = 0;
  }
  if (call.out[1]) std::memset(call.out[1].data, 0, static_cast<size_t>(call.out[1].codec->bytes(rows * m.width)));
  if (m.mean) find_mean(call, m);
  for (int64_t row = 0, rank = 0; row < rows;) {
    // What is negligible depends on the rows that go together: always the same ones then.
    const int64_t end = m.negligible ? std::min(rows, row / kGranule * kGranule + kGranule) : rows;
    const int64_t count = gather(call.in[0], call.in[2].as<const int32_t>(), row, end, m.rows, m);
    if (count == 0) continue;
    run_granule(call, m, count, rank);
    rank += count;
    call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t r = begin; r < end; ++r) finish_row(call, m, r, m.buffers + thread * m.width);
    });
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& x = call.in[0];
  const auto& w = call.in[1];
  const int64_t width = w.shape[1];
  const double cap = static_cast<double>(call.as<CrossEntropyAttributes>().cap);
  std::vector<double> logits;
  int64_t rank = 0;
  if (call.out[3]) std::fill(call.out[3].data->begin(), call.out[3].data->end(), 0.0);
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    const int64_t target = static_cast<int64_t>(call.in[2][i]);
    const double lse = target < 0 ? 0 : log_sum_exp(x, w, call.in[4], cap, i, logits);
    const CrossEntropyAttributes& a = call.as<CrossEntropyAttributes>();
    call.out[0][i] = target < 0 ? 0 : loss_of(a, lse, logits, target);
    if (call.out[2]) call.out[2][i] = lse;
    if (call.out[3] && target >= 0)
      std::copy(logits.begin(), logits.end(), call.out[3].data->begin() + rank++ * w.shape[0]);
    if (!call.out[1]) continue;
    for (int64_t d = 0; d < width; ++d) {
      double sum = 0;
      for (int64_t v = 0; target >= 0 && v < w.shape[0]; ++v) {
        const double logit = logits[static_cast<size_t>(v)];
        sum += loss_slope(a, lse, std::exp(logit - lse), v == target, w.shape[0]) * cap_slope(cap, logit) *
               w[v * width + d];
      }
      call.out[1][i * width + d] = call.in[3][0] * sum;
    }
  }
}

// dx and lse were asked for when the node was made.
Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId x = node.in[0], w = node.in[1], bias = node.in[4], loss = node.out[0];
  const ValueId upstream = backward.gradient_of(loss);
  if (upstream == kNone && !backward.is_loss(loss)) return {};
  const RowScale by = scaled_rows(backward, upstream, node.in[3], node.out[1], x, loss);
  const ValueId saved = backward.saved(x), lse = backward.saved(node.out[2]), logits = backward.saved(node.out[3]);
  if (backward.wanted(w))
    backward.accumulate_head(w, {.op = &kLinearCrossEntropyDw,
                                 .attributes = node.attributes,
                                 .in = {saved, w, node.in[2], by.scale, lse, kNone, kNone, logits, bias}});
  if (backward.wanted(bias))
    backward.accumulate(bias, kLinearCrossEntropyDbias, node.attributes,
                        {saved, w, node.in[2], by.scale, lse, logits, bias}, ".sum");
  if (backward.wanted(x)) backward.add(x, by.dx);
  return {};
}

// The log-sum-exp was asked for when the node was made.
Result<void> tangent(Tangents& tangents, const Node& node) {
  const ValueId x = node.in[0], w = node.in[1], bias = node.in[4];
  tangents.set(node.out[0], tangents.graph().emit(kLinearCrossEntropyTangent, node.attributes,
                                                  {x, w, node.in[2], node.out[2], bias, tangents.of(x), tangents.of(w),
                                                   tangents.of(bias)},
                                                  tangents.name(node.out[0])));
  return {};
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const double products = out.size() > 1 && out[1].codec ? 1 + kept_share(any) : 1;
  const auto weights = static_cast<double>(in[1].shape.count());
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[1].codec->block > 1 ? products * weights : 0};
  cost.of(ProductUse::head) = 2.0 * products * static_cast<double>(in[0].shape[0]) * weights;
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const CrossEntropyAttributes exact;
  const Type none{.codec = nullptr};
  return {
      {exact, {Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, none}, {{}, {}, {3, -1, 10, 0, 0}}, {3}},
      {exact, {Type{{3, 8}}, Type{{1500, 8}}, Type{{3}, &kI32}, Type{{1}}, none}, {{}, {}, {1400, 3, 1024}}, {3}},
      {CrossEntropyAttributes{.cap = 1.5},
       {Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{11}}},
       {{}, {}, {3, -1, 10, 0, 0}},
       {3}},
      {CrossEntropyAttributes{.terms = {.target = 0.75f, .uniform = 0.25f, .square = 0.125f}},
       {Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{11}}},
       {{}, {}, {3, -1, 10, 0, 0}},
       {3}},
      {CrossEntropyAttributes{.cap = 1.5, .terms = {.target = 0, .square = 0.125f}},
       {Type{{3, 8}}, Type{{1500, 8}}, Type{{3}, &kI32}, Type{{1}}, none},
       {{}, {}, {1400, 3, 1024}},
       {3}},
      {exact, {Type{{3, 8}}, Type{{1500, 8}}, Type{{3}, &kI32}, Type{{1}}, Type{{1500}}}, {{}, {}, {1400, 3, 7}}, {3}}};
}

}  // namespace

const Op kLinearCrossEntropy = {.name = "linear_cross_entropy",
                                .infer = infer,
                                .text = text,
                                .gradient = gradient,
                                .tangent = tangent,
                                .workspace = workspace,
                                .cost = cost,
                                .reference = reference,
                                .run = run,
                                .samples = samples,
                                .alone = true};

}  // namespace thimble
