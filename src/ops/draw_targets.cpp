// draw_targets: for every row that has a target another one, drawn from the softmax of the row's logits, which exist
// only a tile of the vocabulary at a time.
//
//   Source  a reservoir over tiles (Chao 1982, Biometrika 69): of the tile that comes, with sum s of exp(logit), a
//           token replaces what was drawn with probability s / (sum so far), and within the tile is token v with
//           exp(logit_v) / s
//
// Two numbers a row and tile decide, keyed by (seed, stream, step, row of the step): neither the rows of a pass nor
// threads change what is drawn.
#include <limits>

#include "core/random.h"
#include "kernels/math.h"
#include "ops/cross_entropy_parts.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

using namespace cross_entropy;

const DrawTargetsAttributes& of(const Call& call) { return call.as<DrawTargetsAttributes>(); }

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("draw_targets", in, 4));
  CHECK_OK(expect_rank("draw_targets", "x", in[0], 2));
  CHECK_OK(expect_elements("draw_targets", "x", in[0]));
  CHECK_OK(expect_rank("draw_targets", "w", in[1], 2));
  CHECK_OK(expect_shape("draw_targets", "w", in[1], {in[1].shape[0], in[0].shape[1]}));
  CHECK_OK(expect_indices("draw_targets", "targets", in[2], in[0].shape[0]));
  if (!absent(in[3])) {
    CHECK_OK(expect_shape("draw_targets", "bias", in[3], {in[1].shape[0]}));
    CHECK_OK(expect_f32("draw_targets", "bias", in[3]));
  }
  return std::vector{in[2]};
}

Memory memory(std::span<const Type> in, Multiply multiply, int threads, std::byte* base) {
  return {CrossEntropyAttributes{}, in[0], in[1], multiply, threads, base};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply multiply, int threads) {
  return memory(in, multiply, threads, nullptr).size;
}

// The two numbers in [0, 1) of a row and a tile.
struct Draw {
  float replaces, within;
};
Draw draw(const Random& random, uint64_t row, int64_t tile, int64_t tiles) noexcept {
  const uint64_t first = 2 * (row * static_cast<uint64_t>(tiles) + static_cast<uint64_t>(tile));
  return {random.uniform(first), random.uniform(first + 1)};
}

// The first place where the running sum of weights passes `at`; of rounding's doing the last that weighs anything.
template <class T>
int64_t place_of(const T* weights, int64_t count, double at) noexcept {
  double sum = 0;
  int64_t last = 0;
  for (int64_t v = 0; v < count; ++v) {
    if (weights[v] > 0) last = v;
    if ((sum += static_cast<double>(weights[v])) > at) return v;
  }
  return last;
}

// What one row has drawn so far: m.largest and m.sums of its logits, and the token in `drawn`.
void take_tile(const Memory& m, int64_t r, const Tile& tile, const Draw& u, int32_t& drawn) noexcept {
  float* const logits = tile.logits + r * tile.stride;
  const float largest = std::max(m.largest[r], max(logits, tile.columns));
  double sum = 0;
  for (int64_t v = 0; v < tile.columns; ++v) sum += static_cast<double>(logits[v] = exp_f32(logits[v] - largest));
  m.sums[r] = m.sums[r] * exp_f32(m.largest[r] - largest) + static_cast<float>(sum);
  m.largest[r] = largest;
  if (u.replaces * m.sums[r] < static_cast<float>(sum))
    drawn = static_cast<int32_t>(tile.first + place_of(logits, tile.columns, static_cast<double>(u.within) * sum));
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[0].shape[0], vocab = call.in[1].shape[0];
  const Type types[] = {type_of(call.in[0]), type_of(call.in[1])};
  const Memory m = memory(types, call.run.multiply, call.run.threads.count(), call.workspace.data());
  const Random random(call.run.seed, of(call).stream, call.run.step);
  const int64_t tiles = (vocab + m.tile - 1) / m.tile;
  auto* const out = call.out[0].as<int32_t>();
  std::fill(out, out + rows, -1);
  for (int64_t row = 0; row < rows;) {
    const int64_t count = gather(call.in[0], call.in[2].as<const int32_t>(), row, rows, m.rows, m);
    std::fill(m.largest, m.largest + count, -std::numeric_limits<float>::infinity());
    std::fill(m.sums, m.sums + count, 0.0f);
    for (int64_t first = 0; first < vocab && count > 0; first += m.tile) {
      const Tile tile = tile_at(m, {}, 0, first, std::min(m.tile, vocab - first));
      make_logits(call, m, call.in[1], call.in[3], count, tile, {of(call).cap});
      call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
          const uint64_t of_step = call.run.first_row + static_cast<uint64_t>(m.index[r]);
          take_tile(m, r, tile, draw(random, of_step, first / m.tile, tiles), out[m.index[r]]);
        }
      });
    }
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t vocab = call.in[1].shape[0], tile = std::min(kVocabTile, vocab), tiles = (vocab + tile - 1) / tile;
  const auto& a = call.as<DrawTargetsAttributes>();
  const Random random(call.run.seed, a.stream, call.run.step);
  std::vector<double> logits;
  for (int64_t i = 0; i < call.in[0].shape[0]; ++i) {
    call.out[0][i] = -1;
    if (call.in[2][i] < 0) continue;
    const double lse = log_sum_exp(call.in[0], call.in[1], call.in[3], static_cast<double>(a.cap), i, logits);
    for (double& logit : logits) logit = std::exp(logit - lse);
    double whole = 0;
    for (int64_t first = 0; first < vocab; first += tile) {
      const int64_t columns = std::min(tile, vocab - first);
      double sum = 0;
      for (int64_t v = first; v < first + columns; ++v) sum += logits[static_cast<size_t>(v)];
      whole += sum;
      const Draw u = draw(random, call.run.first_row + static_cast<uint64_t>(i), first / tile, tiles);
      if (static_cast<double>(u.replaces) * whole < sum)
        call.out[0][i] =
            static_cast<double>(first + place_of(logits.data() + first, columns, static_cast<double>(u.within) * sum));
    }
  }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto weights = static_cast<double>(in[1].shape.count());
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[1].codec->block > 1 ? weights : 0};
  cost.of(ProductUse::head) = 2.0 * static_cast<double>(in[0].shape[0]) * weights;
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  return {{DrawTargetsAttributes{.stream = 3},
           {Type{{5, 7}}, Type{{11, 7}}, Type{{5}, &kI32}, none},
           {{}, {}, {3, -1, 10, 0, 0}}},
          {DrawTargetsAttributes{.stream = 4, .cap = 1.5},
           {Type{{6, 8}, &kBf16}, Type{{2500, 8}}, Type{{6}, &kI32}, Type{{2500}}},
           {{}, {}, {1400, 3, 1024, -1, 0, 7}}}};
}

}  // namespace

const Op kDrawTargets = {.name = "draw_targets",
                         .infer = infer,
                         .text =
                             [](const std::any& any) {
                               const auto& a = *std::any_cast<DrawTargetsAttributes>(&any);
                               return fmt::format("{{{:x}{}}}", a.stream,
                                                  a.cap > 0 ? fmt::format(", cap {}", a.cap) : "");
                             },
                         .workspace = workspace,
                         .cost = cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples,
                         .alone = true,
                         .detaches = true};

}  // namespace thimble
