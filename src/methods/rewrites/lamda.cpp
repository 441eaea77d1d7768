// LaMDA: a small square matrix trains between two projections that are the weight's singular vectors.
//
//   Paper   Azizi et al. 2024, arXiv:2406.12832, section 3 (LaMDA)
//   Graph   h = x A^T;  y = x W^T + s (h S^T) B^T - h C^T, s = alpha / rank
//   Begins  W = U D V:  A = V_r, B = U_r, C = W V_r^T = U_r D_r, S = U_r^T C / s = D_r / s, so that the model begins as
//           it is
//   Trains  S [rank, rank]; B [out, rank], column after column of which freezes (lamda_freezing.cpp). A and C never
//           do
//   Names   "<module>.lamda_A", "lamda_S", "lamda_B", "lamda_C"; peft_type LAMDA, which other tools do not read
//   Choice  the frozen weight stays as it is stored and C takes its largest part off in the same sum, where the paper
//           stores the rest. A and C are saved: S and B mean nothing with other singular vectors, and those of the same
//           model in another codec may differ in sign. Layers have one rank, or ranks of their own (lamda_ranks.cpp)
#include "methods/rewrites/lamda.h"

#include "methods/optimizers/matrices.h"
#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, "rank_pattern", 32},
                                 {"lora_alpha", "alpha", Kind::number, {}, 16},
                                 {"frozen_by", "frozen_by", Kind::whole},
                                 {"adaptive", "adaptive", Kind::flag}};
constexpr std::string_view kA = "lamda_A", kS = "lamda_S", kC = "lamda_C";

int64_t rank_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("rank")); }
double unit_of(const ModuleRewrite& m) { return m.option("alpha") / m.option("rank"); }

// The technique's values of a layer, as they are added.
struct Parts {
  ValueId a, s, b, c;
};
Parts parts_of(ModuleRewrite& m) {
  const int64_t rank = rank_of(m);
  return {m.add(kA, {rank, m.in}, {}, {.trained = false, .derived = true}),
          m.add(kS, {rank, rank}, {}, {.derived = true}),
          m.add(kLamdaB, {m.out, rank}, {}, {.by_rows = true, .derived = true}),
          m.add(kC, {m.out, rank}, {}, {.by_rows = true, .trained = false, .derived = true})};
}

void adapt(ModuleRewrite& m) {
  const Parts parts = parts_of(m);
  const ValueId h = m.product(m.x, parts.a, m.name("lamda_h"));
  const ValueId turned = m.product(h, parts.s, m.name("lamda_Sh"));
  const ModuleRewrite::Term terms[] = {{turned, parts.b, m.module.scale * unit_of(m)}, {h, parts.c, -m.module.scale}};
  m.y = m.linear(m.x, m.w, terms, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const Parts parts = parts_of(m);
  const LinearAttributes plain{.terms = {{false, 1}}};
  const ValueId bs = m.graph.emit(kLinear, plain, {m.rows(parts.b), parts.s, kNone, kNone}, m.name("lamda_BS"));
  PointwiseBuilder b;
  const Expr product = b.tensor(), taken = b.tensor();
  b.output(m.module.scale * (unit_of(m) * product - taken));
  const ValueId moved = m.graph.emit(kPointwise, b.attributes(), {bs, m.rows(parts.c)}, m.name("lamda_moved"));
  return m.graph.emit(kLinear, plain, {moved, parts.a, kNone, m.decoded()}, m.name("lamda_W"));
}

std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  const std::vector<ValueId> usv = m.graph.emit_all(kSvd, SvdAttributes{rank_of(m)}, {m.w}, m.name("lamda"));
  const ValueId c = product_transposed(m.graph, m.w, usv[2], m.name("lamda_UD"));
  PointwiseBuilder b;
  b.output(b.tensor() * (1 / unit_of(m)));
  const ValueId d = inner(m.graph, usv[0], c, m.name("lamda_D"));
  const ValueId s = m.graph.emit(kPointwise, b.attributes(), {d}, m.name("lamda_D_scaled"));
  return {{kA, usv[2]}, {kS, s}, {kLamdaB, usv[0]}, {kC, c}};
}

Result<void> check(const OptionValues& options, int64_t in, int64_t out) {
  if (options["rank"] <= static_cast<double>(std::min(in, out))) return {};
  return fail(ErrorCode::invalid_argument, "a weight [{}, {}] has no {} singular vectors; give a smaller --rank", out,
              in, options["rank"]);
}

}  // namespace

const Rewrite kLamda = {.name = "lamda",
                        .summary = "a small square matrix trains between singular vectors of the weight",
                        .paper = "arXiv:2406.12832",
                        .rate = 1,
                        .options = kLamdaOptions,
                        .adapt = adapt,
                        .weight = weight,
                        .scales = true,
                        .whole = true,
                        .check = check,
                        .wrapper = &kLamdaFreezing,
                        .settling = &kLamdaRanks,
                        .begin = begin,
                        .form = {.type = "LAMDA", .fields = kFields}};

}  // namespace thimble
