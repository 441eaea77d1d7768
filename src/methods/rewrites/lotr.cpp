// LoTR: products of low rank whose outer factors all layers of one kind share, with a small core of each layer.
//
//   Paper   Bershatsky et al. 2024, arXiv:2402.01376, section 3 (Tucker-2)
//   Graph   W' = W + s A G B^T;  y = x W^T + s ((x B) G^T) A^T, s = alpha / rank
//   Adds    A [out, rank] and B^T [rank, in], of all q_proj, of all k_proj ...; G [rank, rank] of each layer, zeros
//   Names   "lotr_A.<kind>", "lotr_B.<kind>", "<module>.lotr_G"; peft_type LOTR, which other tools do not read
//   Choice  A and B begin normal with variances 1 / rank and 1 / in, G at zero, so that nothing changes at first
#include <cmath>

#include "methods/rewrite.h"
#include "ops/pointwise.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("rank", 8, 1, 65536, "rows and columns of a layer's core"),
                               {"alpha", 16, 1e-6, 1e6, "the product is scaled by alpha / rank"}};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, {}, 8}, {"lora_alpha", "alpha", Kind::number, {}, 16}};

int64_t rank_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("rank")); }
double scale_of(const ModuleRewrite& m) { return m.module.scale * m.option("alpha") / m.option("rank"); }

float deviation(int64_t over) { return 1 / std::sqrt(static_cast<float>(over)); }

ValueId factor_a(ModuleRewrite& m) {
  return m.add("lotr_A." + m.module.kind, {m.out, rank_of(m)}, Initial::normal(deviation(rank_of(m))),
               {.shared = true});
}
ValueId factor_b(ModuleRewrite& m) {
  return m.add("lotr_B." + m.module.kind, {rank_of(m), m.in}, Initial::normal(deviation(m.in)), {.shared = true});
}
ValueId core(ModuleRewrite& m) { return m.add("lotr_G", {rank_of(m), rank_of(m)}, Initial::constant(0)); }

void adapt(ModuleRewrite& m) {
  const ValueId low = m.product(m.x, factor_b(m), m.name("lotr_xB"));
  const ValueId h = m.product(low, core(m), m.name("lotr_h"));
  const ModuleRewrite::Term term{h, factor_a(m), scale_of(m)};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const LinearAttributes plain{.terms = {{false, 1}}};
  const LinearAttributes scaled{.terms = {{false, static_cast<float>(scale_of(m))}}};
  const ValueId right = m.graph.emit(kLinear, plain, {core(m), factor_b(m), kNone, kNone}, m.name("lotr_GB"));
  return m.graph.emit(kLinear, scaled, {m.rows(factor_a(m)), right, kNone, m.decoded()}, m.name("lotr_W"));
}

}  // namespace

const Rewrite kLotr = {.name = "lotr",
                       .summary = "products of low rank whose outer factors layers of one kind share",
                       .paper = "arXiv:2402.01376",
                       .rate = 5,
                       .options = kOptions,
                       .adapt = adapt,
                       .weight = weight,
                       .scales = true,
                       .by_rows = false,
                       .form = {.type = "LOTR", .fields = kFields}};

}  // namespace thimble
