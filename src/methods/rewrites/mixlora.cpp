// MixLoRA: the frozen FFN becomes a mixture of experts, each of which is the FFN with LoRAs of its own in its three
// layers; a router takes the best of them for each token. Layers of attention have a LoRA each.
//
//   Paper   Li et al. 2024, arXiv:2404.15159, section 3.2, eq. 4 to 8; the authors' code (github.com/TUDB-Labs/MixLoRA)
//   Graph   g = softmax of the `chosen` largest of x R^T;  of an expert e: gate_e = gate + s (x A_e^T) B_e^T, up
//           likewise, a_e = f(gate_e) up_e;  y = (sum of g_e a_e) W^T + s sum of g_e (a_e A_e^T) B_e^T;  s = alpha /
//           rank
//   Adds    R [experts, width], normal 0.02; of each expert A and B of gate, up and down: A uniform in +-1/sqrt(in), B
//           zeros; LoRA's A and B elsewhere
//   Trains  with a loss that keeps experts evenly used
//   Names   "<down_proj>.mixlora_router", "<down_proj>.experts.E.gate_A" and so on; elsewhere LoRA's; peft_type
//           MIXLORA, whose folders are not those of the authors' code
//   Choice  a layer behind an activation is the last of an FFN and has the experts, all others have LoRA. The base's
//           gate and up are computed once for all experts, as the authors' code does. No noise on the router's input
#include "methods/rewrites/mixlora.h"

#include <cmath>

#include "core/random.h"
#include "methods/rewrites/expert_gates.h"
#include "methods/rewrites/lora.h"
#include "ops/experts.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    kLoraOptions[0],
    kLoraOptions[1],
    kLoraOptions[2],
    kLoraOptions[3],
    kLoraOptions[4],
    whole_number("experts", 8, 1, 64, "of an FFN"),
    whole_number("chosen", 2, 1, 64, "experts of a token, at most all"),
    {"balance", 0.01, 0, 1e3, "weight of the loss that keeps experts evenly used"},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {
    {"r", "rank", Kind::whole, {}, 8},         {"lora_alpha", "alpha", Kind::number, {}, 16},
    {"lora_dropout", "dropout", Kind::number}, {"use_rslora", "rslora", Kind::flag},
    {"lora_bias", "bias", Kind::flag},         {"num_experts", "experts", Kind::whole, {}, 8},
    {"top_k", "chosen", Kind::whole, {}, 2},   {"router_aux_loss_coef", "balance", Kind::number, {}, 0.01}};

// An FFN with experts while it is being made. What has a row a place is as in ops/experts.h.
class Mixture {
 public:
  Mixture(ModuleRewrite& m, const ModuleRewrite::Inner& inner) : m_(m), g_(m.graph), inner_(inner) {
    experts_ = static_cast<int64_t>(m.option("experts")), rank_ = static_cast<int64_t>(m.option("rank"));
    places_.count = std::min(experts_, static_cast<int64_t>(m.option_or("chosen", 1)));
  }

  void build() {
    route();
    const ValueId x = dispatched(inner_.x, "x");
    const ValueId gate = adapted(x, inner_.gate, "gate"), up = adapted(x, inner_.up, "up");
    const ValueId each = g_.emit(kActivation, inner_.activation, {gate, up}, m_.name("mixlora_act"));
    const ValueId sum = g_.emit(kCombine, places_, {each, gates_, tokens_, kNone}, m_.name("mixlora_sum"));
    const ValueId low = scaled(through(dropped(each, "down"), "down_A", rank_), "down");
    const ValueId moved = through(low, "down_B", m_.out);
    const ValueId addend = g_.emit(kCombine, places_, {moved, gates_, tokens_, m_.addend}, m_.name("mixlora_moved"));
    m_.y = m_.linear(sum, m_.w, {}, m_.bias, addend, m_.module.name);
  }

 private:
  void route() {
    const ValueId router =
        m_.add("mixlora_router", {experts_, g_.value(inner_.x).type.shape.columns()}, Initial::normal(0.02f));
    const ValueId gates =
        expert_gates(m_, inner_.x, router, {experts_, places_.count, m_.option("balance")}, "mixlora");
    const auto routed = g_.emit_all(kRoute, places_, {gates}, m_.name("mixlora_route"));
    gates_ = routed[0], tokens_ = routed[1], offsets_ = routed[2];
  }

  ValueId dispatched(ValueId x, const char* name) {
    return g_.emit(kDispatch, places_, {x, tokens_}, m_.name(fmt::format("mixlora_{}", name)));
  }

  ValueId dropped(ValueId x, const std::string& name) {
    if (m_.option("dropout") == 0 || !m_.training) return x;
    const std::string named = m_.name("mixlora_dropout_" + name);
    return g_.emit(kDropout, DropoutAttributes{m_.option("dropout"), name_hash(named)}, {x}, named);
  }

  // Every place's row with its expert's matrix [n, k].
  ValueId through(ValueId x, const std::string& factor, int64_t n) {
    const int64_t k = g_.value(x).type.shape.columns() / places_.count;
    const bool is_b = factor.ends_with("_B");
    std::vector<ValueId> in{x, tokens_, offsets_};
    for (int64_t e = 0; e < experts_; ++e) {
      const Initial initial = is_b ? Initial::constant(0) : Initial::uniform(1 / std::sqrt(static_cast<float>(k)));
      in.push_back(m_.add(fmt::format("experts.{}.{}", e, factor), {n, k}, initial, {.by_rows = factor == "down_B"}));
    }
    const ExpertLinearAttributes attributes{.count = places_.count, .codec = m_.attributes.codec};
    return g_.emit(kExpertLinear, attributes, in, m_.name("mixlora_" + factor));
  }

  ValueId scaled(ValueId x, const std::string& name) {
    PointwiseBuilder b;
    b.output(b.tensor() * lora_scale(m_), m_.attributes.codec);
    return g_.emit(kPointwise, b.attributes(), {x}, m_.name("mixlora_scaled_" + name));
  }

  // What a layer of the base has made, with each place's LoRA of `x`; kNone: there is no such layer.
  ValueId adapted(ValueId x, ValueId base, const std::string& name) {
    if (base == kNone) return kNone;
    const ValueId own = dispatched(base, (name + "_base").c_str());
    const ValueId low = through(dropped(x, name), name + "_A", rank_);
    const ValueId moved = through(low, name + "_B", g_.value(base).type.shape.columns());
    PointwiseBuilder b;
    const Expr before = b.tensor(), by = b.tensor();
    b.output(before + lora_scale(m_) * by, m_.attributes.codec);
    return g_.emit(kPointwise, b.attributes(), {own, moved}, m_.name("mixlora_" + name));
  }

  ModuleRewrite& m_;
  Graph& g_;
  const ModuleRewrite::Inner inner_;
  int64_t experts_ = 1, rank_ = 1;
  PlacesAttributes places_;
  ValueId gates_ = kNone, tokens_ = kNone, offsets_ = kNone;
};

}  // namespace

void mixlora_adapt(ModuleRewrite& m) {
  if (const auto inner = m.inner())
    Mixture(m, *inner).build();
  else
    lora_adapt(m);
}

const Rewrite kMixlora = {.name = "mixlora",
                          .summary = "FFNs become mixtures of experts, each the frozen one with LoRAs of its own",
                          .paper = "arXiv:2404.15159",
                          .rate = 5,
                          .options = kOptions,
                          .adapt = mixlora_adapt,
                          .targets = "q_proj,k_proj,v_proj,o_proj,down_proj,fc2",
                          .mixes_ffns = true,
                          .scales = true,
                          .not_merged = "takes other experts for every token, which no weights can",
                          .form = {.type = "MIXLORA", .fields = kFields}};

}  // namespace thimble
