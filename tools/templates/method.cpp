// @NAME@: one line that says how the model is changed.
//
//   Paper   Authors and year, arXiv number, section
//   Graph   y = x W^T + s (x A^T) B^T, s the adapter's scale
//   Adds    A [rank, in], normal with variance 1 / in; B [out, rank], zeros
//   Names   "<module>.@NAME@_A", "<module>.@NAME@_B"; peft_type
//           @UPPER@, which other tools do not read
//   Choice  where this differs from the paper
//
// As made from the template: a product of low rank beside the frozen weight.
#include <cmath>

#include "methods/rewrite.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("rank", 8, 1, 65536, "r, columns of B and rows of A")};
constexpr PeftField kFields[] = {{"r", "rank", PeftField::Kind::whole, {}, 8}};

int64_t rank_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("rank")); }

ValueId factor_a(ModuleRewrite& m) {
  return m.add("@NAME@_A", {rank_of(m), m.in}, Initial::normal(1 / std::sqrt(static_cast<float>(m.in))));
}
ValueId factor_b(ModuleRewrite& m) {
  return m.add("@NAME@_B", {m.out, rank_of(m)}, Initial::constant(0), {.by_rows = true});
}

void adapt(ModuleRewrite& m) {
  const ValueId h = m.product(m.x, factor_a(m), m.name("@NAME@_h"));
  const ModuleRewrite::Term term{h, factor_b(m), m.module.scale};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const LinearAttributes product{.terms = {{false, static_cast<float>(m.module.scale)}}};
  return m.graph.emit(kLinear, product, {m.rows(factor_b(m)), factor_a(m), kNone, m.decoded()}, m.name("@NAME@_W"));
}

}  // namespace

const Rewrite @SYMBOL@ = {.name = "@NAME@",
                          .summary = "one line for help and docs",
                          .paper = "arXiv number",
                          .rate = 5,
                          .options = kOptions,
                          .adapt = adapt,
                          .weight = weight,
                          .scales = true,
                          .form = {.type = "@UPPER@", .fields = kFields}};

}  // namespace thimble
