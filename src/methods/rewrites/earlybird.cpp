// EarlyBIRD: the head reads what early blocks made; the blocks behind them are left out of the model.
//
//   Paper   Grishina et al. 2023, arXiv:2305.04940, section 3.2; the authors' code (secureIT-project/earlybird)
//   Graph   the head reads norm(c), of h_l, the residual stream behind block l, l = 1 .. n:
//           last      c = h_n                  (their cutoff_layers_one_layer_cls)
//           weighted  c = sum over l of w_l h_l        (w_sum_cls)
//           largest   c = max over l of h_l, number by number      (max_pool_cls)
//   Adds    w_l [1] where they are read, zeros but w_n, which is 1
//   Names   "earlybird.weight.<l>", l from 1; peft_type EARLYBIRD, which other tools do not read
//   Choice  the token that a decoder classifies by is the last of a text, where an encoder's is the first. The model's
//           last norm stays before the head, with its weights. w begins at the last of the blocks, so that weighted
//           begins as last; theirs is uniform in [0, 1). Combinations over tokens (six of their twelve) are not here:
//           the last token of a decoder has read all others
#include <algorithm>

#include "methods/stream.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

enum Combination : int64_t { kLast, kWeighted, kLargest };
constexpr Option kOptions[] = {
    whole_number("blocks", 0, 0, 4096, "n, blocks of the model that are read; 0: a quarter of them"),
    whole_number("combination", kWeighted, kLast, kLargest,
                 "of what they made: 0 that of the last, 1 a weighted sum, 2 the largest numbers"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"blocks", "blocks", Kind::whole},
                                 {"combination", "combination", Kind::whole, {}, kWeighted}};

int64_t blocks_of(const OptionValues& options, int64_t layers) {
  const auto asked = static_cast<int64_t>(options["blocks"]);
  return asked > 0 ? asked : std::max<int64_t>(1, layers / 4);
}

// What is combined so far with what block l made.
ValueId combined(StreamRewrite& s, int64_t l, int64_t n, ValueId made) {
  const ValueId before = s.first.high;
  const auto how = static_cast<Combination>(s.option("combination"));
  if (how == kLast || (how == kLargest && before == kNone)) return made;
  PointwiseBuilder b;
  std::vector<ValueId> in{made};
  const Expr own = b.tensor();
  Expr sum = own;
  if (how == kWeighted) {
    in.push_back(s.trained(fmt::format("earlybird.weight.{}", l), {1}, Initial::constant(l == n ? 1.0f : 0.0f)));
    sum = own * b.scalar();
  }
  if (before != kNone) {
    in.push_back(before);
    const Expr other = b.tensor();
    sum = how == kWeighted ? sum + other : max(own, other);
  }
  b.output(sum, l == n ? s.attributes.codec : &kF32);
  return s.graph.emit(kPointwise, b.attributes(), in, fmt::format("earlybird.combined.{}", l));
}

Result<ValueId> stream(StreamRewrite& s, int64_t blocks, ValueId made) {
  const int64_t n = blocks_of(s.module.options, s.layers);
  if (n > s.layers)
    return fail(ErrorCode::invalid_argument, "--set earlybird.blocks={}: the model has {}; give at most that many", n,
                s.layers);
  if (blocks > 0 && blocks <= n) s.first.high = combined(s, blocks, n, made);
  return blocks == s.layers ? s.first.high : made;
}

}  // namespace

const Rewrite kEarlybird = {.name = "earlybird",
                            .summary = "the head reads what early blocks made, the others are left out",
                            .paper = "arXiv:2305.04940",
                            .rate = 5,
                            .options = kOptions,
                            .stream = stream,
                            .blocks = blocks_of,
                            .targets = "embed_tokens",
                            .not_merged = "reads what early blocks made, which no weights of the whole model come to",
                            .form = {.type = "EARLYBIRD", .fields = kFields}};

}  // namespace thimble
