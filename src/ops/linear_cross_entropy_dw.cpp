// linear_cross_entropy_dw: the gradient of the head's weight, by a second pass over the vocabulary.
//
//   Paper    see linear_cross_entropy.cpp, whose gradient emits it
//   Formula  dw_v += sum_i scale_i (d loss_i / d logit_iv) x_i, which is p_iv - [v = target_i] in general, a granule of
//            tokens after the other; where w is the embedding's table too, the rows of that gradient follow after each
//            granule
#include <cmath>

#include "ops/cross_entropy_parts.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

using namespace cross_entropy;

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_terms("linear_cross_entropy_dw", of(any)));
  CHECK_OK(expect_operands("linear_cross_entropy_dw", in, 10));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "accumulator", in[0], in[2].shape));
  CHECK_OK(expect_f32("linear_cross_entropy_dw", "accumulator", in[0]));
  CHECK_OK(expect_rank("linear_cross_entropy_dw", "w", in[2], 2));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "x", in[1],
                        {in[3].shape.rows() * in[3].shape.columns(), in[2].shape[1]}));
  CHECK_OK(expect_elements("linear_cross_entropy_dw", "x", in[1]));
  CHECK_OK(expect_indices("linear_cross_entropy_dw", "targets", in[3], in[1].shape[0]));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "scale", in[4], {in[4].shape == Shape{1} ? 1 : in[1].shape[0]}));
  CHECK_OK(expect_f32("linear_cross_entropy_dw", "scale", in[4]));
  CHECK_OK(expect_shape("linear_cross_entropy_dw", "lse", in[5], {in[1].shape[0]}));
  CHECK_OK(expect_f32("linear_cross_entropy_dw", "lse", in[5]));
  if (!absent(in[6])) {
    CHECK_OK(expect_indices("linear_cross_entropy_dw", "ids", in[6], in[1].shape[0]));
    CHECK_OK(expect_shape("linear_cross_entropy_dw", "dy", in[7], in[1].shape));
  }
  if (!absent(in[8])) {
    CHECK_OK(expect_shape("linear_cross_entropy_dw", "logits", in[8], {in[1].shape[0], in[2].shape[0]}));
    CHECK_OK(expect_f32("linear_cross_entropy_dw", "logits", in[8]));
  }
  if (!absent(in[9])) {
    CHECK_OK(expect_shape("linear_cross_entropy_dw", "bias", in[9], {in[2].shape[0]}));
    CHECK_OK(expect_f32("linear_cross_entropy_dw", "bias", in[9]));
  }
  return std::vector{Type{in[0].shape, &kF32}};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  return Memory(of(any), in[1], in[2], multiply, threads, nullptr).size;
}

// One tile of the vocabulary, of the rows that have been gathered.
void add_tile(const Call& call, const Memory& m, int64_t count, const Tile& tile) noexcept {
  if (!call.in[8]) make_logits(call, m, call.in[2], call.in[9], count, tile, {call.as<CrossEntropyAttributes>().cap});
  const float* const scales = call.in[4].as<const float>();
  const bool one_scale = call.in[4].shape == Shape{1};
  if (m.negligible) m.negligible.clear();
  call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
    alignas(64) float p[kVocabTile];
    uint8_t* const marks = m.negligible ? m.negligible.marks(thread) : nullptr;
    for (int64_t r = begin; r < end; ++r) {
      logit_gradients(call, m, tile, call.in[2].shape[0], r, scales[one_scale ? 0 : m.index[r]], p, marks);
      encode_run(*m.codec, p, m.weights + m.codec->bytes(r * tile.columns), tile.columns);
    }
  });
  Term values{{m.codec, m.weights, count, tile.columns, 0}, {m.codec, m.x, count, m.width, 0}, true, false, 1};
  const auto kept = kept_columns(call, m, values.a);
  if (kept && kept->empty()) return;
  std::byte* const rows = call.out[0].data + tile.first * m.width * 4;
  gemm(call.run.threads, call.run.multiply,
       describe(values, kept ? m.together : rows, values.a.columns, m.width, !kept), m.product);
  if (!kept) return;
  call.run.threads.split(values.a.columns, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      add_scaled(reinterpret_cast<float*>(rows) + (*kept)[static_cast<size_t>(i)] * m.width,
                 reinterpret_cast<const float*>(m.together) + i * m.width, 1, m.width);
  });
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[1].shape[0], vocab = call.in[2].shape[0];
  const Memory m(of(call.attributes), type_of(call.in[1]), type_of(call.in[2]), call.run.multiply,
                 call.run.threads.count(), call.workspace.data());
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

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& x = call.in[1];
  const auto& w = call.in[2];
  const int64_t width = w.shape[1];
  const double cap = static_cast<double>(call.as<CrossEntropyAttributes>().cap);
  std::vector<double> logits;
  int64_t rank = 0;
  for (int64_t i = 0; i < w.shape.count(); ++i) call.out[0][i] = call.in[0][i];
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    const int64_t target = static_cast<int64_t>(call.in[3][i]);
    if (target < 0) continue;
    log_sum_exp(x, w, call.in[9], cap, i, logits);
    for (int64_t v = 0; call.in[8] && v < w.shape[0]; ++v)
      logits[static_cast<size_t>(v)] = call.in[8][rank * w.shape[0] + v];
    ++rank;
    for (int64_t v = 0; v < w.shape[0]; ++v) {
      const double logit = logits[static_cast<size_t>(v)];
      const double p = loss_slope(call.as<CrossEntropyAttributes>(), call.in[5][i], std::exp(logit - call.in[5][i]),
                                  v == target, w.shape[0]) *
                       cap_slope(cap, logit);
      for (int64_t d = 0; d < width; ++d)
        call.out[0][v * width + d] += call.in[4][call.in[4].shape == Shape{1} ? 0 : i] * p * x[i * width + d];
    }
  }
  for (int64_t i = 0; call.in[6] && i < x.shape[0]; ++i)
    for (int64_t d = 0; d < width; ++d)
      call.out[0][static_cast<int64_t>(call.in[6][i]) * width + d] += call.in[7][i * width + d];
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const auto weights = static_cast<double>(in[2].shape.count());
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[2].codec->block > 1 ? weights : 0};
  cost.of(ProductUse::head_gradient) =
      2 * ((absent(in[8]) ? 1 : 0) + kept_share(any)) * static_cast<double>(in[1].shape[0]) * weights;
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  const CrossEntropyAttributes exact;
  return {{exact,
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, none, none, none, none},
           {{}, {}, {}, {3, -1, 10, 0, 0}}},
          {exact,
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{5}}, Type{{5}}, none, none, none, none},
           {{}, {}, {}, {3, -1, 10, 0, 0}}},
          {exact,
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, none, none,
            Type{{5, 11}}, none},
           {{}, {}, {}, {3, -1, 10, 0, 0}}},
          {exact,
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, Type{{5}, &kI32},
            Type{{5, 7}}, none, none},
           {{}, {}, {}, {3, -1, -1, 0, 0}, {}, {}, {2, 2, 10, 0, 7}}},
          {CrossEntropyAttributes{.terms = {.target = 0.75f, .uniform = 0.25f, .square = 0.125f}},
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{5}}, Type{{5}}, none, none, none, none},
           {{}, {}, {}, {3, -1, 10, 0, 0}}},
          {CrossEntropyAttributes{.cap = 1.5},
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, Type{{1}}, Type{{5}}, none, none, none,
            Type{{11}}},
           {{}, {}, {}, {3, -1, 10, 0, 0}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};
constexpr int kLogits[] = {8};

}  // namespace

const Op kLinearCrossEntropyDw = {.name = "linear_cross_entropy_dw",
                                  .infer = infer,
                                  .text = text,
                                  .workspace = workspace,
                                  .cost = cost,
                                  .reference = reference,
                                  .run = run,
                                  .samples = samples,
                                  .in_place = kAccumulates,
                                  .spares = kLogits,
                                  .alone = true};

}  // namespace thimble
