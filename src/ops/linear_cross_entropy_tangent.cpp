// linear_cross_entropy_tangent: the derivative of the losses of linear_cross_entropy along a direction.
//
//   with a_v = x.w_v + bias_v, z_v = cap tanh(a_v / cap) where there is a cap, and d loss / d a_v as in
//   linear_cross_entropy.cpp (p_v - [v = target] in general):
//     loss'_i = sum_v (d loss_i / d a_iv) (x'_i.w_v + x_i.w'_v + bias'_v)
//
// The log-sum-exp is that of the forward pass; logits and their derivatives exist a tile of the vocabulary at a time.
#include "ops/logit_tangents.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

using namespace cross_entropy;

enum In { kX, kW, kTargets, kLse, kBias, kDx, kDw, kDbias };
constexpr std::string_view kName = "linear_cross_entropy_tangent";

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_terms(kName, of(any)));
  CHECK_OK(expect_operands(kName, in, 8));
  CHECK_OK(expect_rank(kName, "w", in[kW], 2));
  CHECK_OK(expect_rank(kName, "x", in[kX], 2));
  CHECK_OK(expect_shape(kName, "x", in[kX], {in[kX].shape[0], in[kW].shape[1]}));
  CHECK_OK(expect_elements(kName, "x", in[kX]));
  CHECK_OK(expect_indices(kName, "targets", in[kTargets], in[kX].shape[0]));
  CHECK_OK(expect_shape(kName, "lse", in[kLse], {in[kX].shape[0]}));
  CHECK_OK(expect_f32(kName, "lse", in[kLse]));
  if (!absent(in[kBias])) {
    CHECK_OK(expect_shape(kName, "bias", in[kBias], {in[kW].shape[0]}));
    CHECK_OK(expect_f32(kName, "bias", in[kBias]));
  }
  CHECK_OK(expect_direction(kName, in[kX], in[kW], in.subspan(kDx, 3)));
  return std::vector{Type{{in[kX].shape[0]}, &kF32, in[kX].extent}};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  const Memory m(of(any), in[kX], in[kW], multiply, threads, nullptr);
  return m.size + LogitTangents(m, in[kW], in[kDw], multiply, threads, nullptr).size;
}

void add_tile(const Call& call, const Memory& m, const LogitTangents& moved, int64_t count, const Tile& tile) noexcept {
  make_logits(call, m, call.in[kW], call.in[kBias], count, tile, {call.as<CrossEntropyAttributes>().cap});
  moved.make(call, m, {call.in[kW], call.in[kDx], call.in[kDw], call.in[kDbias]}, count, tile);
  call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
    float* const gradient = moved.gradient + thread * m.tile;
    for (int64_t r = begin; r < end; ++r) {
      logit_gradients(call, m, tile, call.in[kW].shape[0], r, 1, gradient, nullptr);
      m.picked[r] += dot(gradient, moved.logits + r * tile.columns, tile.columns);
    }
  });
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[kX].shape[0], vocab = call.in[kW].shape[0];
  const int threads = call.run.threads.count();
  const Memory m(of(call.attributes), type_of(call.in[kX]), type_of(call.in[kW]), call.run.multiply, threads,
                 call.workspace.data());
  const LogitTangents moved(m, type_of(call.in[kW]), type_or_absent(call.in[kDw]), call.run.multiply, threads,
                            call.workspace.data() + m.size);
  float* const out = call.out[0].as<float>();
  std::fill(out, out + rows, 0.0f);
  for (int64_t row = 0; row < rows;) {
    const int64_t count = gather(call.in[kX], call.in[kTargets].as<const int32_t>(), row, rows, m.rows, m);
    for (int64_t r = 0; r < count; ++r) m.sums[r] = call.in[kLse].as<const float>()[m.index[r]], m.picked[r] = 0;
    moved.gather(call.in[kDx], m, count);
    for (int64_t first = 0; count > 0 && first < vocab; first += m.tile)
      add_tile(call, m, moved, count, tile_at(m, {}, 0, first, std::min(m.tile, vocab - first)));
    for (int64_t r = 0; r < count; ++r) out[m.index[r]] = m.picked[r];
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const CrossEntropyAttributes& a = call.as<CrossEntropyAttributes>();
  const double cap = static_cast<double>(a.cap);
  const int64_t vocab = call.in[kW].shape[0], width = call.in[kW].shape[1];
  std::vector<double> logits;
  for (int64_t i = 0; i < call.in[kX].shape[0]; ++i) {
    const int64_t target = static_cast<int64_t>(call.in[kTargets][i]);
    call.out[0][i] = 0;
    if (target < 0) continue;
    log_sum_exp(call.in[kX], call.in[kW], call.in[kBias], cap, i, logits);
    const double lse = call.in[kLse][i];
    for (int64_t v = 0; v < vocab; ++v) {
      double moved = call.in[kDbias] ? call.in[kDbias][v] : 0.0;
      for (int64_t d = 0; d < width; ++d) {
        if (call.in[kDx]) moved += call.in[kDx][i * width + d] * call.in[kW][v * width + d];
        if (call.in[kDw]) moved += call.in[kX][i * width + d] * call.in[kDw][v * width + d];
      }
      const double logit = logits[static_cast<size_t>(v)];
      call.out[0][i] += loss_slope(a, lse, std::exp(logit - lse), v == target, vocab) * cap_slope(cap, logit) * moved;
    }
  }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto weights = static_cast<double>(in[kW].shape.count());
  const int products = 1 + !absent(in[kDx]) + !absent(in[kDw]), reads = 1 + !absent(in[kDx]);
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[kW].codec->block > 1 ? reads * weights : 0};
  cost.of(ProductUse::head) = 2.0 * products * static_cast<double>(in[kX].shape[0]) * weights;
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr}, x{{5, 7}}, w{{11, 7}}, rows{{5}}, bias{{11}}, ids{{5}, &kI32};
  const Type narrow{{3, 8}, &kBf16}, wide{{1500, 8}};
  const std::vector<std::vector<int32_t>> targets{{}, {}, {3, -1, 10, 0, 0}};
  return {{CrossEntropyAttributes{}, {x, w, ids, rows, none, x, w, none}, targets},
          {CrossEntropyAttributes{}, {x, w, ids, rows, bias, x, none, none}, targets},
          {CrossEntropyAttributes{}, {x, w, ids, rows, bias, none, none, bias}, targets},
          {CrossEntropyAttributes{.cap = 1.5}, {x, w, ids, rows, bias, none, w, bias}, targets},
          {CrossEntropyAttributes{.terms = {.target = 0.75f, .uniform = 0.25f, .square = 0.125f}},
           {x, w, ids, rows, bias, x, w, bias},
           targets},
          {CrossEntropyAttributes{},
           {narrow, wide, Type{{3}, &kI32}, Type{{3}}, none, narrow, wide, none},
           {{}, {}, {1400, 3, 1024}}}};
}

}  // namespace

const Op kLinearCrossEntropyTangent = {.name = "linear_cross_entropy_tangent",
                                       .infer = infer,
                                       .text = text,
                                       .workspace = workspace,
                                       .cost = cost,
                                       .reference = reference,
                                       .run = run,
                                       .samples = samples,
                                       .alone = true};

}  // namespace thimble
