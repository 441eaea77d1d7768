// DoRA: LoRA on the direction of a weight's rows, and a trained magnitude of each.
//
//   Paper   Liu et al. 2024, arXiv:2402.09353, eq. 5; the norm is a constant of the gradient, as in section 4.3
//   Graph   V = W + s B A;  k = m / |V|, row by row;  y = k * (x W^T + s h B^T) + b
//   Adds    A and B as LoRA; m [out], the norms of the rows of W
//   Embeds  of an embedding W [vocabulary, width] the columns: k = m / |V|, column by column, m [width]; the rows of
//           tokens are k * (W + s A B^T), where A has a row a token. V is made whole, in f32: the plan shows it
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
  const ReduceOver over = m.embedding ? ReduceOver::rows : ReduceOver::columns;
  const ValueId squares =
      m.graph.emit(kReduce, ReduceAttributes{Reduce::squares, over}, {v}, m.module.name + ".dora_squares");
  PointwiseBuilder b;
  b.output(sqrt(b.tensor()));
  return m.graph.emit(kPointwise, b.attributes(), {squares}, m.module.name + ".dora_norm");
}

// m / |V| of the rows that V is of, or of an embedding's columns.
ValueId ratio(ModuleRewrite& m, ValueId v) {
  const ValueId norm = m.graph.emit(kDetach, {}, {norms(m, v)}, m.module.name + ".dora_detached");
  const bool by_rows = !m.embedding;
  const ValueId magnitude = m.add(kMagnitude, {by_rows ? m.out : m.in}, {}, {.by_rows = by_rows, .derived = true});
  PointwiseBuilder b;
  const Expr of = b.tensor(), by = b.tensor();
  b.output(of / by);
  return m.graph.emit(kPointwise, b.attributes(), {by_rows ? m.rows(magnitude) : magnitude, norm},
                      m.module.name + ".dora_ratio");
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
  const Expr of = b.tensor(), by = m.embedding ? b.row() : b.column();
  b.output(of * by);
  return m.graph.emit(kPointwise, b.attributes(), {v, k}, m.module.name + ".dora_W");
}

ValueId embed(ModuleRewrite& m, ValueId ids, ValueId rows) {
  const ValueId t = lora_embed(m, ids, rows), k = ratio(m, lora_weight(m));
  PointwiseBuilder b;
  const Expr of = b.tensor(), by = b.row();
  b.output(of * by, m.attributes.codec);
  return m.graph.emit(kPointwise, b.attributes(), {t, k}, m.module.name + ".dora_rows");
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
                       .embed = embed,
                       .begin = begin,
                       .begins_by_rows = true,
                       .merges_embedding_whole = true,
                       .form = {.type = "LORA",
                                .fields = lora_fields(),
                                .harmless = lora_harmless(),
                                .refused = refused(),
                                .values = lora_values(),
                                .init_field = "init_lora_weights",
                                .marked = "use_dora"}};

}  // namespace thimble
