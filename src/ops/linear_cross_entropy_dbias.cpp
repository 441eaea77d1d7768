// linear_cross_entropy_dbias: the gradient of a bias on the logits, by a second pass over the vocabulary.
//
//   Paper    see linear_cross_entropy.cpp, whose gradient emits it
//   Formula  dbias_v += sum_i scale_i d loss_i / d logit_iv, which is p_iv - [v = target_i] in general, a granule of
//            tokens after the other
//   Choice   logits are computed once more unless they were kept: few models have such a bias (Phi, GPT-J), and it
//            seldom trains
#include "ops/cross_entropy_parts.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

using namespace cross_entropy;

enum In { kSum, kX, kW, kTargets, kScale, kLse, kLogits, kBias };
constexpr std::string_view kName = "linear_cross_entropy_dbias";

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_terms(kName, of(any)));
  CHECK_OK(expect_operands(kName, in, 8));
  CHECK_OK(expect_rank(kName, "w", in[kW], 2));
  CHECK_OK(expect_rank(kName, "x", in[kX], 2));
  CHECK_OK(expect_shape(kName, "x", in[kX], {in[kX].shape[0], in[kW].shape[1]}));
  CHECK_OK(expect_elements(kName, "x", in[kX]));
  CHECK_OK(expect_indices(kName, "targets", in[kTargets], in[kX].shape[0]));
  const int64_t rows = in[kX].shape[0], vocab = in[kW].shape[0];
  CHECK_OK(expect_shape(kName, "accumulator", in[kSum], {vocab}));
  CHECK_OK(expect_shape(kName, "scale", in[kScale], {in[kScale].shape == Shape{1} ? 1 : rows}));
  CHECK_OK(expect_shape(kName, "lse", in[kLse], {rows}));
  if (!absent(in[kLogits])) CHECK_OK(expect_shape(kName, "logits", in[kLogits], {rows, vocab}));
  if (!absent(in[kBias])) CHECK_OK(expect_shape(kName, "bias", in[kBias], {vocab}));
  for (const auto& [operand, index] :
       {std::pair{"accumulator", kSum}, {"scale", kScale}, {"lse", kLse}, {"logits", kLogits}, {"bias", kBias}})
    CHECK_OK(expect_f32(kName, operand, in[index]));
  return std::vector{Type{in[kSum].shape, &kF32}};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  return Memory(of(any), in[kX], in[kW], multiply, threads, nullptr).size;
}

// Threads share the columns of a tile; rows are added in order.
void add_tile(const Call& call, const Memory& m, int64_t count, const Tile& tile) noexcept {
  if (!call.in[kLogits])
    make_logits(call, m, call.in[kW], call.in[kBias], count, tile, {call.as<CrossEntropyAttributes>().cap});
  const float* const scales = call.in[kScale].as<const float>();
  const bool one_scale = call.in[kScale].shape == Shape{1};
  call.run.threads.split(tile.columns, 64, [&](int64_t begin, int64_t end, int) {
    const Tile part{tile.first + begin, end - begin, tile.logits + begin, tile.stride};
    alignas(64) float p[kVocabTile], sum[kVocabTile];
    std::fill(sum, sum + part.columns, 0.0f);
    for (int64_t r = 0; r < count; ++r) {
      logit_gradients(call, m, part, call.in[kW].shape[0], r, scales[one_scale ? 0 : m.index[r]], p, nullptr);
      add_scaled(sum, p, 1, part.columns);
    }
    add_scaled(call.out[0].as<float>() + part.first, sum, 1, part.columns);
  });
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[kX].shape[0], vocab = call.in[kW].shape[0];
  const Memory m(of(call.attributes), type_of(call.in[kX]), type_of(call.in[kW]), call.run.multiply,
                 call.run.threads.count(), call.workspace.data());
  for (int64_t granule = 0, rank = 0; granule < rows; granule += kGranule) {
    int64_t row = granule;
    const int64_t end = std::min(rows, granule + kGranule);
    const int64_t count = gather(call.in[kX], call.in[kTargets].as<const int32_t>(), row, end, kGranule, m);
    for (int64_t r = 0; r < count; ++r) m.sums[r] = call.in[kLse].as<const float>()[m.index[r]];
    for (int64_t first = 0; count > 0 && first < vocab; first += m.tile)
      add_tile(call, m, count, tile_at(m, call.in[kLogits], rank, first, std::min(m.tile, vocab - first)));
    rank += count;
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const double cap = static_cast<double>(call.as<CrossEntropyAttributes>().cap);
  const int64_t vocab = call.in[kW].shape[0];
  std::vector<double> logits;
  int64_t rank = 0;
  for (int64_t v = 0; v < vocab; ++v) call.out[0][v] = call.in[kSum][v];
  for (int64_t i = 0; i < call.in[kX].shape[0]; ++i) {
    const int64_t target = static_cast<int64_t>(call.in[kTargets][i]);
    if (target < 0) continue;
    log_sum_exp(call.in[kX], call.in[kW], call.in[kBias], cap, i, logits);
    for (int64_t v = 0; v < vocab; ++v) {
      const double logit = call.in[kLogits] ? call.in[kLogits][rank * vocab + v] : logits[static_cast<size_t>(v)];
      const double slope = loss_slope(call.as<CrossEntropyAttributes>(), call.in[kLse][i],
                                      std::exp(logit - call.in[kLse][i]), v == target, vocab);
      call.out[0][v] += call.in[kScale][call.in[kScale].shape == Shape{1} ? 0 : i] * slope * cap_slope(cap, logit);
    }
    ++rank;
  }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  if (absent(in[kLogits]))
    cost.of(ProductUse::head_gradient) =
        2 * static_cast<double>(in[kX].shape[0]) * static_cast<double>(in[kW].shape.count());
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr}, ids{{5}, &kI32};
  const std::vector<std::vector<int32_t>> targets{{}, {}, {}, {3, -1, 10, 0, 0}};
  return {{CrossEntropyAttributes{},
           {Type{{11}}, Type{{5, 7}}, Type{{11, 7}}, ids, Type{{1}}, Type{{5}}, none, Type{{11}}},
           targets},
          {CrossEntropyAttributes{.cap = 1.5},
           {Type{{11}}, Type{{5, 7}}, Type{{11, 7}}, ids, Type{{5}}, Type{{5}}, Type{{5, 11}}, Type{{11}}},
           targets},
          {CrossEntropyAttributes{.terms = {.target = 0.75f, .uniform = 0.25f, .square = 0.125f}},
           {Type{{11}}, Type{{5, 7}}, Type{{11, 7}}, ids, Type{{5}}, Type{{5}}, none, Type{{11}}},
           targets}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};
constexpr int kSpare[] = {kLogits};

}  // namespace

const Op kLinearCrossEntropyDbias = {.name = "linear_cross_entropy_dbias",
                                     .infer = infer,
                                     .text = text,
                                     .workspace = workspace,
                                     .cost = cost,
                                     .reference = reference,
                                     .run = run,
                                     .samples = samples,
                                     .in_place = kAccumulates,
                                     .spares = kSpare,
                                     .alone = true};

}  // namespace thimble
