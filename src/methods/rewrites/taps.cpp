// TAPS: every layer may move from its weight, and a trained score of each decides whether it does.
//
//   Paper   Wallingford et al. 2022, arXiv:2203.16708, eq. 2 to 5
//   Graph   W' = W + I D, I = 1 where score > threshold, else 0;  y = x W'^T. The gradient of I is handed to the score
//           as it is
//   Adds    D [out, in], zeros; score [1], 0.15 (the authors' code); the threshold is 0.1 there
//   Trains  with a penalty of the scores' mean (taps_penalty.cpp): layers that gain less than they cost are shared with
//           the model again
//   Names   "<module>.taps_D", "taps_score"; peft_type TAPS, which other tools do not read
//   Choice  the authors divide the penalty by the 52 layers of their network, here it is by as many as there are. Norms
//           and biases stay the model's
#include "methods/rewrites/taps.h"

#include "methods/rewrite.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"sparsity_penalty", "penalty", Kind::number, {}, 1},
                                 {"score_rate", "score_rate", Kind::number, {}, 1}};
constexpr double kThreshold = 0.1;
constexpr float kBegin = 0.15f;

// 1 or 0, with the score's gradient: [1].
ValueId gate(ModuleRewrite& m) {
  const ValueId score = m.add(kTapsScore, {1}, Initial::constant(kBegin), {.rate = m.option("score_rate")});
  PointwiseBuilder step;
  const Expr whole = step.tensor();
  step.output(greater(whole, kThreshold) - whole);
  const ValueId rest = m.graph.emit(kPointwise, step.attributes(), {score}, m.name("taps_step"));
  const ValueId constant = m.graph.emit(kDetach, {}, {rest}, m.name("taps_detached"));
  PointwiseBuilder b;
  const Expr own = b.tensor(), other = b.tensor();
  b.output(own + other);
  return m.graph.emit(kPointwise, b.attributes(), {score, constant}, m.name("taps_I"));
}

ValueId weight(ModuleRewrite& m) {
  const ValueId difference = m.add("taps_D", {m.out, m.in}, Initial::constant(0), {.by_rows = true});
  PointwiseBuilder b;
  const Expr own = b.tensor(), moved = b.tensor(), on = b.scalar();
  b.output(own + m.module.scale * on * moved);
  const ValueId open = m.once("taps_I", [&] { return gate(m); });
  return m.graph.emit(kPointwise, b.attributes(), {m.w, m.rows(difference), open}, m.name("taps_W"));
}

}  // namespace

const Rewrite kTaps = {.name = "taps",
                       .summary = "layers move from their weights where a trained score says that it pays",
                       .paper = "arXiv:2203.16708",
                       .rate = 1,
                       .options = kTapsOptions,
                       .weight = weight,
                       .scales = true,
                       .wrapper = &kTapsPenalty,
                       .form = {.type = "TAPS", .fields = kFields}};

}  // namespace thimble
