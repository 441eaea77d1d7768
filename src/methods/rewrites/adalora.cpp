// AdaLoRA: LoRA as a product of three factors, whose ranks are allotted to the layers while it trains.
//
//   Paper   Zhang et al. 2023, arXiv:2303.10512, eq. 3
//   Graph   y = x W^T + s (dropout(x) A^T) (B diag(E))^T, s = alpha / (init_r + 1e-5)
//   Adds    A [r, in] and B [out, r], normal of deviation 0.02, E [r], zeros
//   Names   as PEFT's: "<module>.lora_A", "lora_E" [rank, 1], "lora_B"; rank_pattern says which ranks are left
//   Trains  with what goes around the optimizer (adalora_budget.cpp): it allots ranks and keeps A and B orthogonal
//   Choice  a rank that a layer has lost stays in the file, with an E of zero; PEFT's own files may leave it out
#include "methods/rewrites/adalora.h"

#include "core/random.h"
#include "methods/rewrite.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"init_r", "init_rank", Kind::whole, {}, 12},
                                 {"target_r", "rank", Kind::whole, {}, 8},
                                 {"rank_pattern", "left", Kind::marks, "lora_E"},
                                 {"lora_alpha", "alpha", Kind::number, {}, 8},
                                 {"lora_dropout", "dropout", Kind::number},
                                 {"tinit", "tinit", Kind::whole},
                                 {"tfinal", "tfinal", Kind::whole},
                                 {"deltaT", "every", Kind::whole, {}, 1},
                                 {"beta1", "beta1", Kind::number, {}, 0.85},
                                 {"beta2", "beta2", Kind::number, {}, 0.85},
                                 {"orth_reg_weight", "orthogonal", Kind::number, {}, 0.5},
                                 {"total_step", "total", Kind::steps}};
constexpr PeftNote kHarmless[] = {
    {"r", "init_r and rank_pattern say the ranks"},
    {"megatron_core", "it is used with megatron_config alone"},
    {"qalora_group_size", "it is used with use_qalora alone"},
    {"loftq_config", "it says how the base was quantised before training"},
};
constexpr PeftNote kRefused[] = {{"use_dora", "PEFT has no such AdaLoRA"},
                                 {"use_rslora", "PEFT has no such AdaLoRA"},
                                 {"layer_replication", "layers of the base model are repeated"}};

int64_t rank_of(const ModuleRewrite& m) {
  return static_cast<int64_t>(m.option("left") > 0 ? m.option("left") : m.option("init_rank"));
}

double scale_of(const ModuleRewrite& m) { return m.module.scale * m.option("alpha") / (m.option("init_rank") + 1e-5); }

ValueId factor_a(ModuleRewrite& m) { return m.add("lora_A", {rank_of(m), m.in}, Initial::normal(0.02f)); }

// B diag(E)
ValueId scaled_b(ModuleRewrite& m) {
  const ValueId e = adalora_scale(m, Initial::constant(0));
  const ValueId b = m.add("lora_B", {m.out, rank_of(m)}, Initial::normal(0.02f), {.by_rows = true});
  PointwiseBuilder p;
  const Expr row = p.tensor(), by = p.row();
  p.output(row * by);
  return m.graph.emit(kPointwise, p.attributes(), {b, e}, m.module.name + ".adalora_BE");
}

}  // namespace

std::span<const PeftField> adalora_fields() { return kFields; }
std::span<const PeftNote> adalora_harmless() { return kHarmless; }
std::span<const PeftNote> adalora_refused() { return kRefused; }

ValueId adalora_scale(ModuleRewrite& m, const Initial& initial) {
  return m.add("lora_E", {rank_of(m)}, initial, {.stored = {rank_of(m), 1}});
}

void adalora_adapt(ModuleRewrite& m) {
  ValueId dropped = m.x;
  if (m.option("dropout") > 0 && m.training)
    dropped = m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.owner())}, {m.x},
                           m.name("adalora_dropout"));
  const ValueId h = m.product(dropped, factor_a(m), m.name("adalora_h"));
  const ModuleRewrite::Term term{h, scaled_b(m), scale_of(m)};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

ValueId adalora_weight(ModuleRewrite& m) {
  const LinearAttributes product{.terms = {{false, static_cast<float>(scale_of(m))}}};
  return m.graph.emit(kLinear, product, {m.rows(scaled_b(m)), factor_a(m), kNone, m.decoded()}, m.name("adalora_W"));
}

const Rewrite kAdalora = {.name = "adalora",
                          .summary = "LoRA whose ranks are allotted to layers while it trains",
                          .paper = "arXiv:2303.10512",
                          .rate = 100,
                          .options = kAdaloraOptions,
                          .adapt = adalora_adapt,
                          .weight = adalora_weight,
                          .scales = true,
                          .check_run = adalora_check_run,
                          .wrapper = &kAdaloraBudget,
                          .form = {.type = "ADALORA",
                                   .fields = kFields,
                                   .harmless = kHarmless,
                                   .refused = kRefused,
                                   .init_field = "init_lora_weights"}};

}  // namespace thimble
