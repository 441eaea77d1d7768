// (IA)^3: frozen layers whose outputs, or inputs, are scaled by trained vectors.
//
//   Paper   Liu et al. 2022, arXiv:2205.05638, section 3.3
//   Graph   y = l * (x W^T + b); of feed-forward layers y = (l * x) W^T + b
//   Adds    l [out] or [in], ones
//   Names   as PEFT's: "<module>.ia3_l" [out, 1] or [1, in]
//   Choice  PEFT's for Llama: keys, values, and the input of down_proj
#include "methods/rewrite.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {zero_or_one("feedforward", 0, "1: the input is scaled; given by names of layers")};
constexpr PeftField kFields[] = {{"feedforward_modules", "feedforward", PeftField::Kind::names, "down_proj"}};

bool feeds_forward(const ModuleRewrite& m) { return m.option("feedforward") > 0; }

ValueId vector_of(ModuleRewrite& m) {
  if (feeds_forward(m)) return m.add("ia3_l", {m.in}, Initial::constant(1), {.stored = {1, m.in}});
  return m.add("ia3_l", {m.out}, Initial::constant(1), {.by_rows = true, .stored = {m.out, 1}});
}

// x * l, and an addend where there is one; l scales columns.
ValueId scaled(ModuleRewrite& m, ValueId x, ValueId l, ValueId addend, const std::string& name) {
  PointwiseBuilder b;
  const Expr value = b.tensor(), scale = b.row();
  Expr product = value * scale;
  if (addend != kNone) product = product + b.tensor();
  b.output(product, m.attributes.codec);
  std::vector<ValueId> in = {x, l};
  if (addend != kNone) in.push_back(addend);
  return m.graph.emit(kPointwise, b.attributes(), in, name);
}

void adapt(ModuleRewrite& m) {
  const ValueId l = vector_of(m);
  if (feeds_forward(m)) {
    const ValueId x = scaled(m, m.x, l, kNone, m.name("ia3_x"));
    m.y = m.linear(x, m.w, {}, m.bias, m.addend, m.module.name);
    return;
  }
  const ValueId y = m.linear(m.x, m.w, {}, m.bias, kNone, m.module.name + ".ia3_y");
  m.y = scaled(m, y, l, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  PointwiseBuilder b;
  const Expr w = b.tensor();
  b.output(w * (feeds_forward(m) ? b.row() : b.column()));
  const ValueId l = vector_of(m);
  return m.graph.emit(kPointwise, b.attributes(), {m.w, feeds_forward(m) ? l : m.rows(l)}, m.name("ia3_W"));
}

ValueId bias(ModuleRewrite& m) {
  if (feeds_forward(m)) return m.bias;
  PointwiseBuilder b;
  b.output(b.tensor() * b.tensor());
  return m.graph.emit(kPointwise, b.attributes(), {m.bias, vector_of(m)}, m.name("ia3_bias"));
}

}  // namespace

const Rewrite kIa3 = {.name = "ia3",
                      .summary = "frozen layers whose outputs or inputs are scaled by trained vectors",
                      .paper = "arXiv:2205.05638",
                      .rate = 10,
                      .options = kOptions,
                      .adapt = adapt,
                      .weight = weight,
                      .bias = bias,
                      .targets = "k_proj,v_proj,down_proj",
                      .form = {.type = "IA3", .fields = kFields, .init_field = "init_ia3_weights"}};

}  // namespace thimble
