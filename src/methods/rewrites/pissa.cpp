// PiSSA: LoRA that begins with the largest singular triplets of the weight, which the frozen weight is left without.
//
//   Paper   Meng et al. 2024, arXiv:2404.02948, eq. 2 and 3
//   Graph   y = x W^T + s h B^T - s h0 B0^T,  h = dropout(x) A^T, h0 = x A0^T
//   Begins  W = U S V;  A = A0 = sqrt(S_r / s) V_r,  B = B0 = U_r sqrt(S_r / s)
//   Names   as PEFT's LoRA, with init_lora_weights "pissa"
//   Choice  the frozen weight stays as it is stored and A0, B0 are computed again from it: a quantised base is not
//           quantised anew. "pissa_niter_N" is refused: PEFT draws it from torch's generator
#include "methods/rewrites/residual.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  const SvdAttributes largest{static_cast<int64_t>(m.option("rank"))};
  const std::vector<ValueId> usv = m.graph.emit_all(kSvd, largest, {m.w}, m.name("pissa"));
  const double by = 1 / lora_unit(m);
  PointwiseBuilder rows, columns;
  const Expr v = rows.tensor(), of_row = rows.column();
  rows.output(v * sqrt(of_row * by));
  const Expr u = columns.tensor(), of_column = columns.row();
  columns.output(u * sqrt(of_column * by));
  const ValueId a = m.graph.emit(kPointwise, rows.attributes(), {usv[2], usv[1]}, m.name("pissa_A"));
  const ValueId b = m.graph.emit(kPointwise, columns.attributes(), {usv[0], usv[1]}, m.name("pissa_B"));
  return residual_begin(a, b);
}

}  // namespace

const Rewrite kPissa =
    residual("pissa", "LoRA that begins with the largest singular vectors of the weight", "arXiv:2404.02948", begin);

}  // namespace thimble
