// MoLE: the frozen FFN with LoRAs of several experts, of which a router takes the one best for each token.
//
//   Paper   Chen et al. 2024 (LLaVA-MoLE), arXiv:2401.16160, section 3.3
//   Graph   k = argmax of x R^T;  the FFN with expert k's LoRA in each of its layers, which is added without a factor
//   Adds    as mixlora
//   Trains  with a loss that keeps experts evenly used, from which alone the router learns: a choice of one has no
//           gradient
//   Names   as mixlora's, peft_type MOLE
//   Choice  mixlora with one expert a token (its gate is the softmax of one number, which is 1) and the paper's three
//           experts of rank 32: nothing else differs. Layers of attention have LoRA, as in the paper
#include "methods/rewrites/lora.h"
#include "methods/rewrites/mixlora.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 32, 1, 65536, "r, of each expert and of the LoRAs of attention"),
    kLoraOptions[1],
    kLoraOptions[2],
    kLoraOptions[3],
    kLoraOptions[4],
    whole_number("experts", 3, 1, 64, "of an FFN"),
    {"balance", 0.01, 0, 1e3, "weight of the loss that keeps experts evenly used"},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, {}, 32},
                                 {"lora_alpha", "alpha", Kind::number, {}, 16},
                                 {"lora_dropout", "dropout", Kind::number},
                                 {"use_rslora", "rslora", Kind::flag},
                                 {"lora_bias", "bias", Kind::flag},
                                 {"num_experts", "experts", Kind::whole, {}, 3},
                                 {"router_aux_loss_coef", "balance", Kind::number, {}, 0.01}};

}  // namespace

const Rewrite kMole = {.name = "mole",
                       .summary = "FFNs with LoRAs of several experts, one of which each token goes to",
                       .paper = "arXiv:2401.16160",
                       .rate = 5,
                       .options = kOptions,
                       .adapt = mixlora_adapt,
                       .targets = "q_proj,k_proj,v_proj,o_proj,down_proj,fc2",
                       .mixes_ffns = true,
                       .scales = true,
                       .not_merged = "takes another expert for every token, which no weights can",
                       .form = {.type = "MOLE", .fields = kFields}};

}  // namespace thimble
