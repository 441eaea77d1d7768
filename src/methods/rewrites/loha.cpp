// LoHa: a frozen weight plus the elementwise product of two trained products of low rank.
//
//   Paper   Hyeon-Woo et al. 2021, arXiv:2108.06098 (FedPara), eq. 4; Yeh et al. 2023, arXiv:2309.14859 (LyCORIS)
//   Graph   W' = W + (alpha / rank) (A1 B1) * (A2 B2);  y = x W'^T
//   Adds    A1 [out, rank] normal 0.1, B1 [rank, in] normal 1, A2 zeros, B2 normal 1
//   Names   as PEFT's: "<module>.hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"
#include "methods/rewrite.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {whole_number("rank", 8, 1, 65536, "r, of each of the two products"),
                               {"alpha", 8, -1e6, 1e6, "what is added is scaled by alpha / rank"}};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, "rank_pattern", 8},
                                 {"alpha", "alpha", Kind::number, "alpha_pattern", 8}};
constexpr PeftNote kHarmless[] = {{"use_effective_conv2d", "it is for convolutions, which these models have none of"}};
constexpr PeftNote kTraining[] = {{"rank_dropout", "ranks are dropped in training"},
                                  {"module_dropout", "modules are dropped in training"}};

ValueId product(ModuleRewrite& m, const char* number, float deviation) {
  const auto rank = static_cast<int64_t>(m.option("rank"));
  const std::string name = std::string("hada_w") + number;
  const Initial left = deviation > 0 ? Initial::normal(deviation) : Initial::constant(0);
  const ValueId a = m.add(name + "_a", {m.out, rank}, left, {.by_rows = true});
  const ValueId b = m.add(name + "_b", {rank, m.in}, Initial::normal(1));
  const LinearAttributes attributes{.terms = {{false, 1}}};
  return m.graph.emit(kLinear, attributes, {m.rows(a), b, kNone, kNone}, m.module.name + "." + name);
}

ValueId weight(ModuleRewrite& m) {
  const ValueId one = product(m, "1", 0.1f), two = product(m, "2", 0);
  PointwiseBuilder b;
  const Expr w = b.tensor(), x = b.tensor(), y = b.tensor();
  b.output(w + x * y * (m.module.scale * m.option("alpha") / m.option("rank")));
  return m.graph.emit(kPointwise, b.attributes(), {m.w, one, two}, m.name("loha_W"));
}

}  // namespace

const Rewrite kLoha = {
    .name = "loha",
    .summary = "frozen weights plus elementwise products of two products of low rank",
    .paper = "arXiv:2108.06098",
    .rate = 5,
    .options = kOptions,
    .weight = weight,
    .scales = true,
    .form = {
        .type = "LOHA", .fields = kFields, .harmless = kHarmless, .training = kTraining, .init_field = "init_weights"}};

}  // namespace thimble
