// DoRA: LoRA on the direction of a weight's rows, and a trained magnitude of each.
//
//   Paper   Liu et al. 2024, arXiv:2402.09353, eq. 5; the norm is a constant of the gradient, as in section 4.3
//   Graph   V = W + s B A;  k = m / |V|, row by row;  y = k * (x W^T + s h B^T) + b
//   Adds    A and B as LoRA; m [out], the norms of the rows of W
//   Names   as PEFT's: LoRA's, and "<module>.lora_magnitude_vector"
//   Choice  with dropout the frozen product is of x itself; PEFT takes the dropped x for its part of k - 1
#include "methods/rewrites/lora.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr std::string_view kMagnitude = "lora_magnitude_vector";

// As LoRA's, without what it calls DoRA.
std::span<const PeftNote> refused() {
  static const std::vector<PeftNote> notes = [] {
    std::vector<PeftNote> out;
    for (const PeftNote& note : lora_refused())
      if (note.field != "use_dora") out.push_back(note);
    return out;
  }();
  return notes;
}

ValueId norms(ModuleRewrite& m, ValueId v) {
  const ValueId squares = m.graph.emit(kReduce, ReduceAttributes{Reduce::squares, ReduceOver::columns}, {v},
                                       m.module.name + ".dora_squares");
  PointwiseBuilder b;
  b.output(sqrt(b.tensor()));
  return m.graph.emit(kPointwise, b.attributes(), {squares}, m.module.name + ".dora_norm");
}

// m / |V| of the rows that V is of.
ValueId ratio(ModuleRewrite& m, ValueId v) {
  const ValueId norm = m.graph.emit(kDetach, {}, {norms(m, v)}, m.module.name + ".dora_detached");
  const ValueId magnitude = m.add(kMagnitude, {m.out}, {}, {.by_rows = true, .derived = true});
  PointwiseBuilder b;
  const Expr of = b.tensor(), by = b.tensor();
  b.output(of / by);
  return m.graph.emit(kPointwise, b.attributes(), {m.rows(magnitude), norm}, m.module.name + ".dora_ratio");
}

void adapt(ModuleRewrite& m) {
  const ValueId h = lora_h(m), b = lora_b(m), k = ratio(m, lora_weight(m));
  const ModuleRewrite::Term term{h, b, lora_scale(m)};
  const ValueId t = m.linear(m.x, m.w, {&term, 1}, kNone, kNone, m.module.name + ".dora_t");
  PointwiseBuilder p;
  const Expr value = p.tensor(), by = p.row();
  Expr y = value * by;
  std::vector<ValueId> in = {t, k};
  if (const ValueId bias = lora_bias(m); bias != kNone) y = y + p.row(), in.push_back(bias);
  if (m.addend != kNone) y = y + p.tensor(), in.push_back(m.addend);
  p.output(y, m.attributes.codec);
  m.y = m.graph.emit(kPointwise, p.attributes(), in, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const ValueId v = lora_weight(m), k = ratio(m, v);
  PointwiseBuilder b;
  const Expr row = b.tensor(), by = b.column();
  b.output(row * by);
  return m.graph.emit(kPointwise, b.attributes(), {v, k}, m.module.name + ".dora_W");
}

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) { return {{kMagnitude, norms(m, m.w)}}; }

}  // namespace

const Rewrite kDora = {.name = "dora",
                       .summary = "LoRA on the direction of rows, with trained magnitudes",
                       .paper = "arXiv:2402.09353",
                       .rate = 5,
                       .options = kLoraOptions,
                       .adapt = adapt,
                       .weight = weight,
                       .bias = lora_bias,
                       .begin = begin,
                       .begins_by_rows = true,
                       .form = {.type = "LORA",
                                .fields = lora_fields(),
                                .harmless = lora_harmless(),
                                .refused = refused(),
                                .values = lora_values(),
                                .init_field = "init_lora_weights",
                                .marked = "use_dora"}};

}  // namespace thimble
