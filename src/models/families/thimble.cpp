// thimble's own: Llama with blocks of other kinds, as `train --set block.*` makes them. No other program knows it.
//
//   Fields  "block_mixers": the mixer of every block;  "block_windows": the window of its attention, 0: none
//           "block_ffns": the channel mixer of every block;  "ffn_rank": of those of low rank
//           "block_norms": the norm before a block's mixer and before its FFN;  "final_norm"
//           "block_routers": the router of every block's FFN, or "none";  "num_experts", "num_experts_per_tok",
//           "expert_capacity", "router_aux_loss_coef": those of the first routed block; of every block:
//           "block_experts_per_tok", "block_expert_capacities", "block_balances"
//           "residual_multiplier": of what blocks add to the residual stream;  "embedding_multiplier"
//           "coupled_streams": whether there are two (Architecture::coupled)
//           "denoises": whether blocks find a label behind noise (Architecture::denoises)
#include <algorithm>

#include "models/channel_mixer.h"
#include "models/families.h"
#include "models/mixer.h"
#include "models/norm.h"
#include "models/router.h"

namespace thimble {
namespace {

constexpr std::string_view kNoRouter = "none";

std::vector<std::string> routers_of(const Architecture& a) {
  std::vector<std::string> names;
  for (const Block& block : a.blocks)
    names.emplace_back(block.ffn.routing ? block.ffn.routing.router->name : kNoRouter);
  return names;
}

// As many as blocks.
template <class T>
bool one_each(HfFields& f, const Architecture& a, const char* field, const std::vector<T>& list) {
  if (!f.result()) return false;
  if (list.size() == a.blocks.size()) return true;
  f.refuse(fmt::format("'{}' names {} blocks, 'num_hidden_layers' says {}", field, list.size(), a.blocks.size()));
  return false;
}

void routing(HfFields& f, Architecture& a) {
  std::vector<std::string> names = routers_of(a);
  f.field("block_routers", names, names);
  const auto routed = std::ranges::find_if(a.blocks, [](const Block& b) { return bool(b.ffn.routing); });
  Routing r = routed == a.blocks.end() ? Routing{} : routed->ffn.routing;
  if (std::ranges::all_of(names, [](const std::string& name) { return name == kNoRouter; })) return;
  f.field("num_experts", r.experts);
  f.field("num_experts_per_tok", r.chosen, 1);
  f.field("expert_capacity", r.capacity, 0);
  f.field("router_aux_loss_coef", r.balance, 0);
  // By block, where routers of several kinds have other numbers.
  std::vector<int64_t> chosen;
  std::vector<double> capacities, balances;
  for (const Block& block : a.blocks) {
    const Routing& own = block.ffn.routing ? block.ffn.routing : r;
    chosen.push_back(own.chosen), capacities.push_back(own.capacity), balances.push_back(own.balance);
  }
  f.field("block_experts_per_tok", chosen, std::vector(names.size(), r.chosen));
  f.field("block_expert_capacities", capacities, std::vector(names.size(), r.capacity));
  f.field("block_balances", balances, std::vector(names.size(), r.balance));
  if (!f.reads() || !one_each(f, a, "block_routers", names) || !one_each(f, a, "block_experts_per_tok", chosen) ||
      !one_each(f, a, "block_expert_capacities", capacities) || !one_each(f, a, "block_balances", balances))
    return;
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == kNoRouter) continue;
    r.router = find_router(names[i]);
    if (!r.router) return f.refuse(fmt::format("there is no router '{}' ('block_routers')", names[i]));
    r.chosen = chosen[i], r.capacity = capacities[i], r.balance = balances[i];
    a.blocks[i].ffn.routing = r;
  }
}

void mixing(HfFields& f, Architecture& a) {
  std::vector<std::string> names;
  std::vector<int64_t> windows;
  for (const Block& block : a.blocks) {
    names.emplace_back((block.mixer ? block.mixer : &kAttentionMixer)->name);
    windows.push_back(block.attention.window);
  }
  f.field("block_mixers", names, names);
  f.field("block_windows", windows, windows);
  if (!f.reads() || !one_each(f, a, "block_mixers", names) || !one_each(f, a, "block_windows", windows)) return;
  for (size_t i = 0; i < names.size(); ++i) {
    const Mixer* const mixer = find_mixer(names[i]);
    if (!mixer) return f.refuse(fmt::format("there is no mixer '{}' ('block_mixers')", names[i]));
    a.blocks[i].attention.window = windows[i];
    if (mixer != &kAttentionMixer) set_mixer(a.blocks[i], *mixer);
  }
}

void channel_mixing(HfFields& f, Architecture& a) {
  std::vector<std::string> names;
  int64_t rank = 0;
  for (const Block& block : a.blocks) {
    names.emplace_back(block.ffn.mixer->name);
    rank = std::max(rank, block.ffn.rank);
  }
  f.field("block_ffns", names, names);
  f.field("ffn_rank", rank, 0);
  if (!f.reads() || !one_each(f, a, "block_ffns", names)) return;
  for (size_t i = 0; i < names.size(); ++i) {
    const ChannelMixer* const mixer = find_channel_mixer(names[i]);
    if (!mixer) return f.refuse(fmt::format("there is no FFN '{}' ('block_ffns')", names[i]));
    set_channel_mixer(a.blocks[i].ffn, *mixer, rank);
  }
}

// Every norm as llama_like() has read it, of another kind.
Norm of_kind(Norm norm, const NormKind& kind) {
  norm.kind = &kind, norm.bias = kind.biased;
  return norm;
}

void norming(HfFields& f, Architecture& a) {
  std::vector<std::string> names;
  for (const Block& block : a.blocks) names.emplace_back(block.before_mixer.kind->name);
  std::string last(a.final_norm.kind->name);
  f.field("block_norms", names, names);
  f.field("final_norm", last, last);
  if (!f.reads() || !one_each(f, a, "block_norms", names)) return;
  const auto named = [&](const std::string& name) {
    const NormKind* const kind = find_norm(name);
    if (!kind) f.refuse(fmt::format("there is no norm '{}' ('block_norms', 'final_norm')", name));
    return kind;
  };
  for (size_t i = 0; i < names.size(); ++i)
    if (const NormKind* const kind = named(names[i]))
      a.blocks[i].before_mixer = a.blocks[i].before_ffn = of_kind(a.blocks[i].before_mixer, *kind);
  if (const NormKind* const kind = named(last)) a.final_norm = of_kind(a.final_norm, *kind);
}

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  for (const Block& block : a.blocks)
    if (!block.mixer) b = block;  // the heads and rope of attention, where there is any
  b.ffn.routing = {}, b.ffn.rank = 0, b.mixer = nullptr, b.attention.window = 0;
  llama_like(f, a, b, {.tied = true});
  f.rope(a, b, {.partial_field = kPartialRotary});
  f.field("residual_multiplier", b.residual_scale, 1);
  f.field("embedding_multiplier", a.embedding_scale, 1);
  f.repeat(a, b);
  f.field("coupled_streams", a.coupled, false);
  f.field("denoises", a.denoises, false);
  mixing(f, a);
  channel_mixing(f, a);
  norming(f, a);
  routing(f, a);
}

}  // namespace

const Family kThimbleFamily = {.name = "thimble", .model_class = "ThimbleForCausalLM", .config = config};

}  // namespace thimble
