// gptq: weights are rounded column by column, and what rounding changes of a layer's outputs is made up for by the
// columns that follow.
//
//   Paper   Frantar et al. 2022, arXiv:2210.17323, Algorithm 1
//   Update  H = X^T X + damp mean(diag X^T X) I;  U^T U = H^-1, U upper;  for each column j:
//           q_j = nearest level of w_j;  w_k <- w_k - (w_j - q_j) / U_jj U_jk for k > j
//   Choice  the levels are those of a GGUF block, found by its encoder. Columns go by the size of their inputs,
//           largest first (the authors' --act-order), with levels found beforehand (--static-groups); without act_order
//           they go from left to right, and the levels of a block are found when its first column is reached.
#include "codecs/level_grid.h"
#include "methods/transform.h"
#include "ops/transform.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"damp", 0.01, 1e-6, 1, "part of the mean diagonal of X^T X that is added to the diagonal"},
    zero_or_one("act_order", 1, "1: columns with the largest inputs are rounded first; 0: from the left"),
};

ValueId apply(const TransformedLayer& layer) {
  const bool descending = layer.settings.options["act_order"] != 0;
  const InverseFactorAttributes attributes{layer.settings.options["damp"], descending};
  const bool wanted[] = {true, descending};
  const std::vector<ValueId> factor =
      layer.graph.emit_all(kInverseFactor, attributes, {layer.statistic}, "factor", wanted);
  return layer.graph.emit(kRoundColumns, RoundColumnsAttributes{&layer.codec}, {layer.w, factor[0], factor[1]},
                          "rounded");
}

}  // namespace

const Transform kGptq = {.name = "gptq",
                         .summary = "weights are rounded one after another, each making up for those before it",
                         .paper = "Frantar et al. 2022, arXiv:2210.17323",
                         .kind = TransformKind::quantize,
                         .options = kOptions,
                         .observer = &kGram,
                         .rounds_to = [](const Codec& codec) { return level_grid(codec) != nullptr; },
                         .apply = apply};

}  // namespace thimble
