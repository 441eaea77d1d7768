// OLoRA: LoRA that begins with orthonormal columns, the first of the weight's QR factors, which the frozen weight is
// left without.
//
//   Paper   Bueyuekakyuez 2024, arXiv:2406.01775, algorithm 1
//   Graph   as PiSSA's
//   Begins  W = Q R;  B = B0 = Q_r, A = A0 = R_r = Q_r^T W: of Q only the first r columns of W count
//   Names   as PEFT's LoRA, with init_lora_weights "olora"
//   Choice  signs are such that R has a positive diagonal; the product is the same for any
#include "methods/rewrites/residual.h"
#include "ops/blocks.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  const auto rank = static_cast<int64_t>(m.option("rank"));
  const SliceAttributes first{SliceAttributes::Axis::columns, 0, rank};
  const ValueId columns = rank == m.in ? m.w : m.graph.emit(kSlice, first, {m.w}, m.name("olora_columns"));
  const bool wanted[] = {true, false};
  const ValueId b = m.graph.emit(kQr, {}, {columns}, m.name("olora_B"), wanted);
  const ValueId a = m.graph.emit(kBlockProduct, BlockProductAttributes{1, true}, {b, m.w}, m.name("olora_A"));
  return residual_begin(a, b);
}

}  // namespace

const Rewrite kOlora =
    residual("olora", "LoRA that begins with orthonormal columns of the weight", "arXiv:2406.01775", begin);

}  // namespace thimble
