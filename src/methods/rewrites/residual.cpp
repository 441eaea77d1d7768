#include "methods/rewrites/residual.h"

#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr std::string_view kA = "lora_A.weight", kB = "lora_B.weight";
constexpr std::string_view kFrozenA = "residual_A.weight", kFrozenB = "residual_B.weight";

int64_t rank_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("rank")); }

// The trained factors, which begin with the frozen ones: LoRA finds them by their names.
void add_trained(ModuleRewrite& m) {
  m.add(kA, {rank_of(m), m.in}, {}, {.derived = true});
  m.add(kB, {m.out, rank_of(m)}, {}, {.by_rows = true, .derived = true});
}
ValueId frozen_a(ModuleRewrite& m) {
  return m.add(kFrozenA, {rank_of(m), m.in}, {}, {.trained = false, .saved = false, .derived = true, .optional = true});
}
ValueId frozen_b(ModuleRewrite& m) {
  return m.add(kFrozenB, {m.out, rank_of(m)}, {},
               {.by_rows = true, .trained = false, .saved = false, .derived = true, .optional = true});
}

void adapt(ModuleRewrite& m) {
  add_trained(m);
  const ValueId b = lora_b(m), h = lora_h(m), b0 = frozen_b(m);
  const ValueId h0 = m.product(m.x, frozen_a(m), m.name("residual_h"));
  const ModuleRewrite::Term terms[] = {{h, b, lora_scale(m)}, {h0, b0, -lora_scale(m)}};
  m.y = m.linear(m.x, m.w, terms, lora_bias(m), m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  add_trained(m);
  const LinearAttributes product{.terms = {{false, static_cast<float>(-lora_scale(m))}}};
  return m.graph.emit(kLinear, product, {m.rows(frozen_b(m)), frozen_a(m), kNone, lora_weight(m)},
                      m.name("residual_W"));
}

Result<void> check(const OptionValues& options, int64_t in, int64_t out) {
  if (options["rank"] <= static_cast<double>(std::min(in, out))) return {};
  return fail(ErrorCode::invalid_argument, "a weight [{}, {}] has no parts of rank {}; give a smaller --rank", out, in,
              options["rank"]);
}

}  // namespace

std::vector<std::pair<std::string_view, ValueId>> residual_begin(ValueId a, ValueId b) {
  return {{kA, a}, {kB, b}, {kFrozenA, a}, {kFrozenB, b}};
}

Rewrite residual(std::string_view name, std::string_view summary, std::string_view paper,
                 decltype(Rewrite::begin) begin) {
  return {.name = name,
          .summary = summary,
          .paper = paper,
          .rate = 1,
          .options = kLoraOptions,
          .adapt = adapt,
          .weight = weight,
          .bias = lora_bias,
          .scales = true,
          .check = check,
          .begin = begin,
          .form = {.type = "LORA",
                   .fields = lora_fields(),
                   .harmless = lora_harmless(),
                   .refused = lora_refused(),
                   .marked = "init_lora_weights",
                   .marked_text = name}};
}

}  // namespace thimble
