// LoRA: a frozen weight, in whatever codec it is, plus a trained product of low rank.
//
//   Paper   Hu et al. 2021, arXiv:2106.09685, eq. 3; on a quantised base: Dettmers et al. 2023, arXiv:2305.14314
//   Graph   y = x W^T  becomes  h = dropout(x) A^T;  y = x W^T + s h B^T, one product, rounded once; s = alpha / rank,
//           or alpha / sqrt(rank) for rsLoRA (Kalajdzievski 2023, arXiv:2312.03732)
//   Adds    A [rank, in], uniform in +-1/sqrt(in) (as PEFT begins); B [out, rank], zeros; with lora_bias b [out],
//           zeros, which is scaled as B is
//   Names   as PEFT's: "<module>.lora_A.weight", "<module>.lora_B.weight"; of an embedding [vocabulary, width]
//           lora_embedding_A [rank, vocabulary], zeros, and lora_embedding_B [width, rank], normal
#include "methods/rewrites/lora.h"

#include <cmath>

#include "core/random.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {
    {"r", "rank", Kind::whole, "rank_pattern", 8},
    {"lora_alpha", "alpha", Kind::number, "alpha_pattern", 8},
    {"lora_dropout", "dropout", Kind::number},
    {"use_rslora", "rslora", Kind::flag},
    {"lora_bias", "bias", Kind::flag},
};
constexpr PeftNote kHarmless[] = {
    {"megatron_core", "it is used with megatron_config alone"},
    {"qalora_group_size", "it is used with use_qalora alone"},
    {"loftq_config", "it says how the base was quantised before training"},
    {"eva_config", "it says how A began"},
    {"lora_ga_config", "it says how A and B began; a base that it changed is refused by init_lora_weights"},
    {"corda_config", "it says how A and B began; a base that it changed is refused by init_lora_weights"},
    {"kasa_config", "a base that it changed is refused by init_lora_weights"},
    {"runtime_config", "PEFT does not save it"},
};
constexpr PeftNote kRefused[] = {
    {"use_dora", "columns are scaled by trained magnitudes (DoRA)"},
    {"layer_replication", "layers of the base model are repeated"},
    {"use_qalora", "the input is pooled before A (QALoRA)"},
    {"target_parameters", "parameters are adapted that are no weights of modules"},
    {"megatron_config", "layers are split as Megatron does"},
    {"use_bdlora", "A and B are block-diagonal (BD-LoRA)"},
    {"arrow_config", "adapters are routed token by token (Arrow)"},
    {"alora_invocation_tokens", "it is active after some tokens only (aLoRA)"},
    {"monteclora_config", "A is sampled (MonteCLoRA)"},
    {"velora_config", "gradients are projected (VeLoRA)"},
};
constexpr std::string_view kConvert =
    "it changes the base model; convert the adapter to plain LoRA first (path_initial_model_for_weight_conversion in "
    "PEFT)";
constexpr PeftValue kValues[] = {
    {"init_lora_weights", "gaussian", {}},
    {"init_lora_weights", "eva", {}},
    {"init_lora_weights", "orthogonal", {}},
    {"init_lora_weights", "pissa", kConvert},
    {"init_lora_weights", "olora", kConvert},
    {"init_lora_weights", "corda", kConvert},
    {"init_lora_weights", "loftq", kConvert},
    {"init_lora_weights", "lora_ga", kConvert},
    {"init_lora_weights", "kasa", kConvert},
    {"init_lora_weights", "",
     "thimble does not know whether it changes the base model; expected true or false, or gaussian, eva, orthogonal"},
};

int64_t rank_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("rank")); }

// Of an embedding: A is [rank, vocabulary] in the file, a row of it a token here.
ValueId embedding_a(ModuleRewrite& m) {
  return m.add("lora_embedding_A", {m.out, rank_of(m)}, Initial::constant(0), {.transposed = true});
}
ValueId embedding_b(ModuleRewrite& m) { return m.add("lora_embedding_B", {m.in, rank_of(m)}, Initial::normal(1)); }

}  // namespace

std::span<const PeftField> lora_fields() { return kFields; }
std::span<const PeftNote> lora_harmless() { return kHarmless; }
std::span<const PeftNote> lora_refused() { return kRefused; }
std::span<const PeftValue> lora_values() { return kValues; }

double lora_unit(const ModuleRewrite& m) {
  const double rank = m.option("rank");
  return m.option("alpha") / (m.option("rslora") > 0 ? std::sqrt(rank) : rank);
}

double lora_scale(const ModuleRewrite& m) { return m.module.scale * lora_unit(m); }

ValueId lora_a(ModuleRewrite& m) {
  return m.add("lora_A.weight", {rank_of(m), m.in}, Initial::uniform(1 / std::sqrt(static_cast<float>(m.in))),
               {.trained = m.option_or("train_a", 1) > 0});
}

ValueId lora_b(ModuleRewrite& m) {
  return m.add("lora_B.weight", {m.out, rank_of(m)}, Initial::constant(0),
               {.by_rows = true, .rate = m.option_or("b_rate", 1)});
}

ValueId lora_h(ModuleRewrite& m) {
  ValueId dropped = m.x;
  if (m.option("dropout") > 0 && m.training)
    dropped = m.once("lora_dropout", [&] {
      return m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.owner())}, {m.x},
                          m.name("lora_dropout"));
    });
  return m.once("lora_h", [&] { return m.product(dropped, lora_a(m), m.name("lora_h")); });
}

// The layer's bias with that of B; kNone: there is none of either.
ValueId lora_bias(ModuleRewrite& m) {
  if (m.option("bias") == 0) return m.bias;
  const ValueId own =
      m.add("lora_B.bias", {m.out}, Initial::constant(0), {.by_rows = true, .rate = m.option_or("b_rate", 1)});
  PointwiseBuilder b;
  Expr sum = b.tensor() * lora_scale(m);
  if (m.bias != kNone) sum = sum + b.tensor();
  b.output(sum);
  return m.graph.emit(kPointwise, b.attributes(), m.bias == kNone ? std::vector{own} : std::vector{own, m.bias},
                      m.module.name + ".lora_bias");
}

void lora_adapt(ModuleRewrite& m) {
  lora_a(m);
  const ValueId b = lora_b(m), h = lora_h(m);
  const ModuleRewrite::Term term{h, b, lora_scale(m)};
  m.y = m.linear(m.x, m.w, {&term, 1}, lora_bias(m), m.addend, m.module.name);
}

ValueId lora_weight(ModuleRewrite& m) {
  const LinearAttributes product{.terms = {{m.embedding, static_cast<float>(lora_scale(m))}}};
  const ValueId left = m.rows(m.embedding ? embedding_a(m) : lora_b(m));
  const ValueId right = m.embedding ? embedding_b(m) : lora_a(m);
  return m.graph.emit(kLinear, product, {left, right, kNone, m.decoded()}, m.name("lora_W"));
}

ValueId lora_embed(ModuleRewrite& m, ValueId ids, ValueId rows) {
  const ValueId a = embedding_a(m), b = embedding_b(m);
  const ValueId h =
      m.graph.emit(kEmbedding, EmbeddingAttributes{.codec = m.attributes.codec}, {ids, a}, m.name("lora_h"));
  return m.product(h, b, m.module.name, lora_scale(m), rows);
}

const Rewrite kLora = {.name = "lora",
                       .summary = "frozen weights plus trained products of low rank",
                       .paper = "arXiv:2106.09685",
                       .rate = 5,
                       .options = kLoraOptions,
                       .adapt = lora_adapt,
                       .weight = lora_weight,
                       .bias = lora_bias,
                       .embed = lora_embed,
                       .scales = true,
                       .form = {.type = "LORA",
                                .fields = kFields,
                                .harmless = kHarmless,
                                .refused = kRefused,
                                .values = kValues,
                                .init_field = "init_lora_weights"}};

}  // namespace thimble
