// SaRA: the smallest numbers of a frozen weight train; all others stay as they are stored.
//
//   Paper   Hu et al. 2024, arXiv:2409.06633, sections 3.2, 3.4 (progressive adjustment), 3.5 (unstructural
//           backpropagation)
//   Graph   W' = W, with P at its places;  y = x W'^T. The gradient of W' lives while its layer runs, P's is what it
//           has there
//   Adds    P [out, n], begins with the numbers of W at the places; places [out, n]: of each row the n = ratio in of
//           smallest magnitude
//   Trains  with an adjustment (sara_adjustment.cpp)
//   Names   "<module>.sara_P", "sara_places" (columns, as f32 whole numbers); peft_type SARA, which other tools do not
//           read
//   Choice  places are the smallest of each row, where the paper has one threshold for all layers: rows then have the
//           same number, which the plan knows before it sees a weight. Written over W as W is decoded, so that files in
//           another codec have P there too. The loss that keeps the sum of singular values low is not here; its weight
//           is 0 in the authors' code (github.com/sjtuplayer/SaRA)
#include "methods/rewrites/sara.h"

#include <algorithm>
#include <cmath>

#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"ratio", "ratio", Kind::number, {}, 0.1}, {"adjust_at", "adjust_at", Kind::whole}};
constexpr std::string_view kPlaces = "sara_places";

int64_t count_of(const ModuleRewrite& m) {
  return std::clamp<int64_t>(std::llround(m.option("ratio") * static_cast<double>(m.in)), 1, m.in);
}

ValueId weight(ModuleRewrite& m) {
  const Shape shape{m.out, count_of(m)};
  const ValueId places = m.rows(m.add(kPlaces, shape, {}, {.by_rows = true, .trained = false, .derived = true}));
  const ValueId values = m.rows(m.add(kSaraValues, shape, {}, {.by_rows = true, .derived = true}));
  const ValueId w = m.decoded();
  const ValueId own = m.graph.emit(kPickPlaces, {}, {w, places}, m.name("sara_W"));
  PointwiseBuilder difference;
  const Expr value = difference.tensor(), before = difference.tensor();
  difference.output(m.module.scale * (value - before));
  const ValueId moved = m.graph.emit(kPointwise, difference.attributes(), {values, own}, m.name("sara_moved"));
  const ValueId put = m.graph.emit(kPutPlaces, PutAttributes{m.in}, {moved, places}, m.name("sara_put"));
  PointwiseBuilder sum;
  const Expr weight = sum.tensor(), by = sum.tensor();
  sum.output(weight + by);
  return m.graph.emit(kPointwise, sum.attributes(), {w, put}, m.name("sara_sum"));
}

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  const ValueId places = m.graph.emit(kSmallestPlaces, SmallestAttributes{count_of(m)}, {m.w}, m.name(kPlaces));
  return {{kPlaces, places}, {kSaraValues, m.graph.emit(kPickPlaces, {}, {m.w, places}, m.name(kSaraValues))}};
}

}  // namespace

const Rewrite kSara = {.name = "sara",
                       .summary = "the smallest numbers of frozen weights train",
                       .paper = "arXiv:2409.06633",
                       .rate = 15,
                       .options = kSaraOptions,
                       .weight = weight,
                       .scales = true,
                       .whole = true,
                       .wrapper = &kSaraAdjustment,
                       .begin = begin,
                       .form = {.type = "SARA", .fields = kFields}};

}  // namespace thimble
