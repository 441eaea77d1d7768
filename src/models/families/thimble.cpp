// thimble's own: Llama with blocks of other kinds, as `train --set block.*` makes them. No other program knows it.
//
//   Fields  "block_routers": the router of every block's FFN, or "none";  "num_experts", "num_experts_per_tok",
//           "expert_capacity", "router_aux_loss_coef": those of routed blocks, the same in all
#include <algorithm>

#include "models/families.h"
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

void routing(HfFields& f, Architecture& a) {
  std::vector<std::string> names = routers_of(a);
  f.field("block_routers", names, names);
  const auto routed = std::ranges::find_if(a.blocks, [](const Block& b) { return bool(b.ffn.routing); });
  Routing r = routed == a.blocks.end() ? Routing{} : routed->ffn.routing;
  if (f.reads() && std::ranges::all_of(names, [](const std::string& name) { return name == kNoRouter; })) return;
  f.field("num_experts", r.experts);
  f.field("num_experts_per_tok", r.chosen, 1);
  f.field("expert_capacity", r.capacity, 0);
  f.field("router_aux_loss_coef", r.balance, 0);
  if (!f.reads()) return;
  if (names.size() != a.blocks.size())
    return f.refuse(fmt::format("'block_routers' should have {} names, found {}", a.blocks.size(), names.size()));
  for (size_t i = 0; i < names.size(); ++i) {
    if (names[i] == kNoRouter) continue;
    r.router = find_router(names[i]);
    if (!r.router) return f.refuse(fmt::format("there is no router '{}' ('block_routers')", names[i]));
    a.blocks[i].ffn.routing = r;
  }
}

void config(HfFields& f, Architecture& a) {
  Block b = first_block(a);
  b.ffn.routing = {};
  llama_like(f, a, b, {.tied = true});
  f.rope(a, b);
  f.repeat(a, b);
  routing(f, a);
}

}  // namespace

const Family kThimbleFamily = {.name = "thimble", .model_class = "ThimbleForCausalLM", .config = config};

}  // namespace thimble
