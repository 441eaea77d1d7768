// MoLA: every layer has several LoRAs, its experts, of which a router of its own takes the best for each token; higher
// layers have more of them.
//
//   Paper   Gao et al. 2024, arXiv:2402.08562, eq. 4 and 5, section 3.2
//   Graph   g = softmax of the `chosen` largest of x R^T, zeros elsewhere;  h = dropout(x) A^T, rank numbers an expert
//           y = x W^T + s (g * h) B^T, each expert's numbers times its gate;  s = alpha / rank
//   Adds    R [experts, in] and A [experts rank, in], uniform in +-1/sqrt(in) (as the authors' code begins); B [out,
//           experts rank], zeros
//   Names   "<module>.mola_router", "mola_A", "mola_B": experts one after another; peft_type MOLA, which other tools do
//           not read
//   Choice  layers share the list of experts evenly: with 2|4|6|8 a quarter of them has 2, the next 4 and so on. All
//           experts are multiplied with, and gates of zero leave out what is not chosen: the numbers are the authors',
//           and a product of experts rank columns is small. Experts are not balanced by default, as in their code
#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "methods/rewrites/expert_gates.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 8, 1, 65536, "of each expert"),
    {"alpha", 16, 1e-6, 1e6, "what experts add is scaled by alpha / rank"},
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    {"experts", 0, 1, 64, "of a layer, from the first layers to the last; without a list 2|4|6|8",
     Option::Kind::whole_numbers},
    whole_number("chosen", 2, 1, 64, "experts of a token, at most all of the layer's"),
    {"balance", 0, 0, 1e3, "weight of the loss that keeps experts evenly used"},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {
    {"r", "rank", Kind::whole, {}, 8},         {"lora_alpha", "alpha", Kind::number, {}, 16},
    {"lora_dropout", "dropout", Kind::number}, {"num_experts", "experts", Kind::list},
    {"top_k", "chosen", Kind::whole, {}, 2},   {"balance", "balance", Kind::number}};

int64_t rank_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("rank")); }

// What is in no block counts as the last one.
int64_t experts_of(const ModuleRewrite& m) {
  static constexpr double kDefault[] = {2, 4, 6, 8};
  const std::vector<double>& asked = m.module.options.list("experts");
  const std::span<const double> all = asked.empty() ? std::span<const double>(kDefault) : std::span(asked);
  const auto count = static_cast<int64_t>(all.size());
  const int64_t part = m.module.layer < 0 ? count - 1 : m.module.layer * count / m.module.layers;
  return static_cast<int64_t>(all[static_cast<size_t>(part)]);
}

Initial uniform(const ModuleRewrite& m) { return Initial::uniform(1 / std::sqrt(static_cast<float>(m.in))); }

ValueId gates(ModuleRewrite& m) {
  const int64_t experts = experts_of(m);
  const ValueId router = m.add("mola_router", {experts, m.in}, uniform(m));
  const int64_t chosen = std::min(experts, static_cast<int64_t>(m.option("chosen")));
  return expert_gates(m, m.x, router, {experts, chosen, m.option("balance")}, "mola");
}

// [experts rank, experts]: ones where a number is the expert's.
ValueId spread(ModuleRewrite& m) {
  const int64_t experts = experts_of(m), rank = rank_of(m);
  const std::string name = fmt::format("mola_spread.{}.{}", experts, rank);
  const auto fill = [experts, rank](int64_t first, int64_t count, float* to) {
    for (int64_t i = first; i < first + count; ++i) to[i - first] = i / experts / rank == i % experts;
  };
  return m.constant(name, {experts * rank, experts}, Initial::table(fill, name));
}

// dropout(x) A^T, the numbers of each expert times its gate.
ValueId gated(ModuleRewrite& m) {
  ValueId dropped = m.x;
  if (m.option("dropout") > 0 && m.training)
    dropped = m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.owner())}, {m.x},
                           m.name("mola_dropout"));
  const ValueId h =
      m.product(dropped, m.add("mola_A", {experts_of(m) * rank_of(m), m.in}, uniform(m)), m.name("mola_h"));
  const LinearAttributes plain{.codec = &kF32, .narrow = m.attributes.narrow};
  const ValueId wide = m.graph.emit(kLinear, plain, {gates(m), spread(m), kNone, kNone}, m.name("mola_wide_gates"));
  PointwiseBuilder b;
  const Expr number = b.tensor(), gate = b.tensor();
  b.output(number * gate, m.attributes.codec);
  return m.graph.emit(kPointwise, b.attributes(), {h, wide}, m.name("mola_gated"));
}

void adapt(ModuleRewrite& m) {
  const ValueId h = m.once("mola_gated", [&] { return gated(m); });
  const ValueId b = m.add("mola_B", {m.out, experts_of(m) * rank_of(m)}, Initial::constant(0), {.by_rows = true});
  const ModuleRewrite::Term term{h, b, m.module.scale * m.option("alpha") / m.option("rank")};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

}  // namespace

const Rewrite kMola = {.name = "mola",
                       .summary = "several LoRAs a layer, more in higher layers, of which a router takes the best",
                       .paper = "arXiv:2402.08562",
                       .rate = 5,
                       .options = kOptions,
                       .adapt = adapt,
                       .scales = true,
                       .not_merged = "takes other experts for every token, which no weights can",
                       .form = {.type = "MOLA", .fields = kFields}};

}  // namespace thimble
