// linear_distillation: how far the predictions of a model are from those of another, its teacher, with the heads of
// both, so that logits exist only a tile of the vocabulary at a time.
//
//   Paper   Hinton et al. 2015, arXiv:1503.02531 (distillation, temperature); Wijmans et al. 2024, arXiv:2411.09009
//           (a loss from tiles), whose running softmax is taken of both models' logits at once
//   loss_i  T^2 sum_v q_iv (log q_iv - log p_iv), with p = softmax(x_i w^T / T) and q = softmax(xt_i wt^T / T); 0 where
//           the target is -1. It is summed as sum_v q_iv (zt_iv - z_iv) - lse(zt_i) + lse(z_i), on the way.
//   dx_i    scale T sum_v (p_iv - q_iv) w_v, gathered in the same pass over the vocabulary
//   dw_v    scale T sum_i (p_iv - q_iv) x_i, by linear_distillation_dw
// The teacher learns nothing: it has no gradient.
#include <cmath>
#include <limits>

#include "kernels/math.h"
#include "ops/backward.h"
#include "ops/distillation_parts.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

using namespace distillation;

constexpr std::string_view kName = "linear_distillation";

enum In { kX, kW, kTargets, kScale, kBias, kTeacherX, kTeacherW, kTeacherBias };
enum Out { kLoss, kDx, kLse, kTeacherLse };

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands(kName, in, 8));
  CHECK_OK(expect_models(kName, {in[kX], in[kW], in[kBias]}, {in[kTeacherX], in[kTeacherW], in[kTeacherBias]}));
  CHECK_OK(expect_indices(kName, "targets", in[kTargets], in[kX].shape[0]));
  CHECK_OK(expect_shape(kName, "scale", in[kScale], {1}));
  CHECK_OK(expect_f32(kName, "scale", in[kScale]));
  const Type row{{in[kX].shape[0]}, &kF32, in[kX].extent};
  return std::vector{row, in[kX], row, row};
}

// Both models' memory, and what the teacher's tiles add up to.
struct Together {
  Memory student, teacher;
  float* pull;   // [rows, width of the student]: sum of exp(zt - largest) w_v
  float* apart;  // [rows]: sum of exp(zt - largest) (zt - z)
  int64_t size;

  Together(const Type& x, const Type& w, const Type& teacher_x, const Type& teacher_w, Multiply multiply, int threads,
           std::byte* base)
      : student({}, x, w, multiply, threads, base),
        teacher({}, teacher_x, teacher_w, multiply, threads, base ? base + student.size : nullptr) {
    const int64_t before = student.size + teacher.size, rows = student.rows;
    pull = base ? reinterpret_cast<float*>(base + before) : nullptr;
    apart = pull + rows * student.width;
    const int64_t own = 4 * rows * (student.width + 1);
    // The weights of the teacher's logits are multiplied with the student's head.
    const Term term{{teacher.codec, nullptr, rows, student.tile, 0},
                    {w.codec, nullptr, student.tile, student.width, 0},
                    false,
                    false,
                    1};
    const int64_t product = gemm_workspace_bytes(multiply, describe(term, nullptr, rows, student.width, true), threads);
    const int64_t at = before + (own + 63) / 64 * 64;
    size = at + product;
    if (product > std::ssize(student.product))
      student.product = {base ? base + at : nullptr, static_cast<size_t>(product)};
  }
};

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply multiply, int threads) {
  return Together(in[kX], in[kW], in[kTeacherX], in[kTeacherW], multiply, threads, nullptr).size;
}

// Takes a tile of logits of one row into a running softmax; `weights` f32 become exp(logit - largest).
void take_tile(const Memory& m, int64_t r, const Tile& tile, float* sums, int64_t width, float* more,
               float* weights) noexcept {
  const float* const logits = tile.logits + r * tile.stride;
  const float largest = std::max(m.largest[r], max(logits, tile.columns));
  const float shrink = exp_f32(m.largest[r] - largest);
  m.largest[r] = largest;
  if (shrink != 1) {
    scale(m.lanes + r * kSumLanes, shrink, kSumLanes);
    if (sums) scale(sums + r * width, shrink, width);
    if (more) more[r] *= shrink;
  }
  exp_sum_lanes(logits, largest, tile.columns, m.lanes + r * kSumLanes, weights);
}

void take_tiles(const Call& call, const Together& m, int64_t r, const Tile& own, const Tile& teachers) noexcept {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  const bool wants_dx = bool(call.out[kDx]);
  const float* const z = own.logits + r * own.stride;
  const float* const zt = teachers.logits + r * teachers.stride;
  alignas(64) float e[cross_entropy::kVocabTile];
  const auto keep = [&](const Memory& to) {
    if (!wants_dx) return;
    if (a.cap > 0) multiply_cap_slope(e, z, a.cap / a.temperature, own.columns);
    encode_run(*to.codec, e, to.weights + to.codec->bytes(r * own.columns), own.columns);
  };
  take_tile(m.student, r, own, wants_dx ? m.student.dx : nullptr, m.student.width, nullptr, e);
  keep(m.student);
  take_tile(m.teacher, r, teachers, wants_dx ? m.pull : nullptr, m.student.width, m.apart, e);
  m.apart[r] += dot(e, zt, own.columns) - dot(e, z, own.columns);
  keep(m.teacher);
}

void add_weighted(const Call& call, const Together& m, const Memory& weights, int64_t count, const Tile& tile,
                  float* to) noexcept {
  const Term term{{weights.codec, weights.weights, count, tile.columns, 0},
                  rows_of(call.in[kW], tile.first, tile.columns).matrix(),
                  false,
                  false,
                  1};
  gemm(call.run.threads, call.run.multiply,
       describe(term, reinterpret_cast<std::byte*>(to), count, m.student.width, true), m.student.product);
}

void run_granule(const Call& call, const Together& m, int64_t count) noexcept {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  for (const Memory* side : {&m.student, &m.teacher}) {
    std::fill(side->largest, side->largest + count, -std::numeric_limits<float>::infinity());
    std::fill(side->lanes, side->lanes + count * kSumLanes, 0.0f);
  }
  std::fill(m.student.dx, m.student.dx + count * m.student.width, 0.0f);
  std::fill(m.pull, m.pull + count * m.student.width, 0.0f);
  std::fill(m.apart, m.apart + count, 0.0f);
  const int64_t vocab = call.in[kW].shape[0];
  for (int64_t first = 0; first < vocab; first += m.student.tile) {
    const int64_t columns = std::min(m.student.tile, vocab - first);
    const Tile own{first, columns, m.student.logits, columns}, teachers{first, columns, m.teacher.logits, columns};
    make_logits(call, m.student, call.in[kW], call.in[kBias], count, own, {a.cap, a.temperature});
    make_logits(call, m.teacher, call.in[kTeacherW], call.in[kTeacherBias], count, teachers,
                {a.teacher_cap, a.temperature});
    call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) take_tiles(call, m, r, own, teachers);
    });
    if (!call.out[kDx]) continue;
    add_weighted(call, m, m.student, count, own, m.student.dx);
    add_weighted(call, m, m.teacher, count, own, m.pull);
  }
}

void finish_row(const Call& call, const Together& m, int64_t r) noexcept {
  const float t = call.as<DistillationAttributes>().temperature;
  const int64_t row = m.student.index[r], width = m.student.width;
  const float own = fold_lanes(m.student.lanes + r * kSumLanes), teachers = fold_lanes(m.teacher.lanes + r * kSumLanes);
  const float lse = m.student.largest[r] + std::log(own), teacher_lse = m.teacher.largest[r] + std::log(teachers);
  call.out[kLoss].as<float>()[row] = t * t * (m.apart[r] / teachers - teacher_lse + lse);
  if (call.out[kLse]) call.out[kLse].as<float>()[row] = lse;
  if (call.out[kTeacherLse]) call.out[kTeacherLse].as<float>()[row] = teacher_lse;
  if (!call.out[kDx]) return;
  float* const dx = m.student.dx + r * width;
  scale(dx, 1 / own, width);
  add_scaled(dx, m.pull + r * width, -1 / teachers, width);
  scale(dx, t * call.in[kScale].as<const float>()[0], width);
  write_row(call.out[kDx], row, width, dx);
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[kX].shape[0];
  const Together m(type_of(call.in[kX]), type_of(call.in[kW]), type_of(call.in[kTeacherX]), type_of(call.in[kTeacherW]),
                   call.run.multiply, call.run.threads.count(), call.workspace.data());
  for (const Out out : {kLoss, kLse, kTeacherLse})
    if (call.out[out]) std::fill_n(call.out[out].as<float>(), rows, 0.0f);
  if (call.out[kDx])
    std::memset(call.out[kDx].data, 0, static_cast<size_t>(call.out[kDx].codec->bytes(rows * m.student.width)));
  const auto* const targets = call.in[kTargets].as<const int32_t>();
  for (int64_t row = 0; row < rows;) {
    int64_t of_teacher = row;
    gather(call.in[kTeacherX], targets, of_teacher, rows, m.teacher.rows, m.teacher);
    const int64_t count = gather(call.in[kX], targets, row, rows, m.student.rows, m.student);
    if (count == 0) continue;
    run_granule(call, m, count);
    call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) finish_row(call, m, r);
    });
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  const auto& w = call.in[kW];
  const double t = static_cast<double>(a.temperature);
  const int64_t vocab = w.shape[0], width = w.shape[1];
  std::vector<double> z, zt;
  for (int64_t i = 0; i < call.in[kX].shape[0]; ++i) {
    const bool learnt = call.in[kTargets][i] >= 0;
    const double lse = learnt ? log_sum_exp(call.in[kX], w, call.in[kBias], a.cap, i, z, t) : 0;
    const double teacher_lse =
        learnt ? log_sum_exp(call.in[kTeacherX], call.in[kTeacherW], call.in[kTeacherBias], a.teacher_cap, i, zt, t)
               : 0;
    double loss = 0;
    std::vector<double> dx(static_cast<size_t>(width));
    for (int64_t v = 0; learnt && v < vocab; ++v) {
      const auto at = static_cast<size_t>(v);
      const double p = std::exp(z[at] - lse), q = std::exp(zt[at] - teacher_lse);
      loss += q * ((zt[at] - teacher_lse) - (z[at] - lse));
      const double slope = t * (p - q) * cap_slope(a.cap, z[at] * t);
      for (int64_t d = 0; d < width; ++d) dx[static_cast<size_t>(d)] += slope * w[v * width + d];
    }
    call.out[kLoss][i] = t * t * loss;
    if (call.out[kLse]) call.out[kLse][i] = lse;
    if (call.out[kTeacherLse]) call.out[kTeacherLse][i] = teacher_lse;
    for (int64_t d = 0; call.out[kDx] && d < width; ++d)
      call.out[kDx][i * width + d] = call.in[kScale][0] * dx[static_cast<size_t>(d)];
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId x = node.in[kX], w = node.in[kW], loss = node.out[kLoss];
  const ValueId upstream = backward.gradient_of(loss);
  if (upstream == kNone && !backward.is_loss(loss)) return {};
  const RowScale by = scaled_rows(backward, upstream, node.in[kScale], node.out[kDx], x, loss);
  if (backward.wanted(w))
    backward.accumulate_head(
        w, {.op = &kLinearDistillationDw,
            .attributes = node.attributes,
            .in = {backward.saved(x), w, node.in[kTargets], by.scale, backward.saved(node.out[kLse]), kNone, kNone,
                   backward.saved(node.in[kTeacherX]), node.in[kTeacherW], backward.saved(node.out[kTeacherLse]),
                   node.in[kBias], node.in[kTeacherBias]}});
  if (backward.wanted(node.in[kBias]))
    return fail(ErrorCode::unsupported, "linear_distillation: a bias of the logits has no gradient from a teacher");
  if (backward.wanted(x)) backward.add(x, by.dx);
  return {};
}

// The log-sum-exps were asked for when the node was made. The teacher does not move.
Result<void> tangent(Tangents& tangents, const Node& node) {
  const ValueId x = node.in[kX], w = node.in[kW], bias = node.in[kBias];
  const std::vector<ValueId> in{x,
                                w,
                                node.in[kTargets],
                                node.out[kLse],
                                bias,
                                tangents.of(x),
                                tangents.of(w),
                                tangents.of(bias),
                                node.in[kTeacherX],
                                node.in[kTeacherW],
                                node.out[kTeacherLse],
                                node.in[kTeacherBias]};
  tangents.set(node.out[kLoss],
               tangents.graph().emit(kLinearDistillationTangent, node.attributes, in, tangents.name(node.out[kLoss])));
  return {};
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto rows = static_cast<double>(in[kX].shape[0]), own = static_cast<double>(in[kW].shape.count());
  const double products = out.size() > 1 && out[kDx].codec ? 3 : 1;
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[kW].codec->block > 1 ? products * own : 0};
  cost.of(ProductUse::head) = 2 * rows * (products * own + static_cast<double>(in[kTeacherW].shape.count()));
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  return {
      {DistillationAttributes{},
       {Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, none, Type{{5, 9}}, Type{{11, 9}}, none},
       {{}, {}, {3, -1, 10, 0, 0}},
       {3, 5, 6}},
      {DistillationAttributes{.temperature = 2, .cap = 1.5, .teacher_cap = 3},
       {Type{{3, 8}}, Type{{1500, 8}}, Type{{3}, &kI32}, Type{{1}}, none, Type{{3, 5}}, Type{{1500, 5}}, Type{{1500}}},
       {{}, {}, {1400, 3, 1024}},
       {3, 5, 6, 7}}};
}

}  // namespace

const Op kLinearDistillation = {.name = kName,
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
