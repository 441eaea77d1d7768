#include "run/blocks.h"

#include <algorithm>
#include <cmath>

#include "core/nearest.h"
#include "core/split.h"
#include "models/channel_mixer.h"
#include "models/families.h"
#include "models/mixer.h"
#include "models/norm.h"
#include "models/router.h"

namespace thimble {
namespace {

constexpr std::string_view kPlain = "none";  // of a router

constexpr Option kOptions[] = {
    zero_or_one("coupled", 0, "1: two streams, of which each block's mixer and FFN read one and change the other"),
    whole_number("tuned_layers", 0, 0, 4096,
                 "blocks of the model that --lr is for (Depth-muP): what blocks add, and their rate, take the root of "
                 "these over the model's; 0: one rate for any number of blocks"),
    zero_or_one("denoises", 0, "1: blocks find a label's embedding behind noise, each from the text, step by step"),
    whole_number("window", 0, 0, 1 << 20, "of sliding attention, in tokens; 0: none"),
    whole_number("ffn_rank", 0, 0, 1 << 20, "of the factors of an FFN of low rank; 0: a quarter of the model's width"),
    whole_number("experts", 8, 1, 4096, "experts of a routed FFN, each as wide as the FFN would be"),
    whole_number("chosen", 0, 0, 64, "experts of a token, at most; 0: as the router does"),
    {"capacity", -1, -1, 1000, "of an expert in training, a multiple of its even share; 0: no bound, -1: the router's"},
    {"balance", -1, -1, 1000, "factor of the loss that keeps experts evenly used; -1: the router's"}};

// The entries of a table that a list names, one a block in turn; nullptr stands for `none`, where that is a name.
template <class Entry>
Result<std::vector<const Entry*>> in_turn(const std::string& setting, const std::string& list,
                                          std::span<const Entry* const> table, std::string_view kind,
                                          std::string_view none, int64_t blocks) {
  std::vector<const Entry*> out;
  for (const std::string& name : split(list, '|'))
    out.push_back(!none.empty() && name == none ? nullptr : TRY(find_named("--set " + setting, kind, table, name)));
  if (out.empty()) return fail(ErrorCode::invalid_argument, "--set {}: it names nothing", setting);
  if (std::ssize(out) > blocks)
    return fail(ErrorCode::invalid_argument, "--set {}: it names {} blocks, the model has {}", setting, out.size(),
                blocks);
  return out;
}

// What a router may be told, and the value that stands for its own.
struct RouterSetting {
  std::string_view name;
  bool Router::*taken;
  double own;
};
constexpr RouterSetting kRouterSettings[] = {
    {"chosen", &Router::any_chosen, 0}, {"capacity", &Router::bounded, -1}, {"balance", &Router::balanced, -1}};

// Where blocks take routers in turn, a setting is for those that have it.
Routing routing_of(const Router& router, const OptionValues& options) {
  Routing r{.router = &router, .experts = static_cast<int64_t>(options["experts"])};
  const auto value = [&](size_t setting, double otherwise) {
    const auto& [name, taken, own] = kRouterSettings[setting];
    return router.*taken && options[name] != own ? options[name] : otherwise;
  };
  r.chosen = static_cast<int64_t>(value(0, static_cast<double>(std::min(router.chosen, r.experts))));
  r.capacity = value(1, router.capacity), r.balance = value(2, router.balance);
  return r;
}

Result<void> check_router_settings(std::span<const Router* const> routers, const OptionValues& options) {
  const auto routed = [](const Router* r) { return r != nullptr; };
  for (const auto& [name, taken, own] : kRouterSettings) {
    const double value = options[name];
    if (value == own) continue;
    if (value < 0)
      return fail(ErrorCode::invalid_argument, "--set {}.{}={}: expected {} for the router's own, or 0 or more",
                  kBlocks, name, value, own);
    if (std::ranges::none_of(routers, [&, taken = taken](const Router* r) { return routed(r) && r->*taken; }))
      return fail(ErrorCode::invalid_argument, "--set {}.{}={}: the router {} has no such setting; leave it out",
                  kBlocks, name, value, (*std::ranges::find_if(routers, routed))->name);
  }
  if (options["chosen"] > options["experts"])
    return fail(ErrorCode::invalid_argument, "--set {}.chosen={}: there are {} experts; give at most that", kBlocks,
                options["chosen"], options["experts"]);
  return {};
}

// Depth-muP (Yang et al. 2023, arXiv:2310.02244): with branches times a / sqrt(L) and, of steps whose size is not the
// gradient's, a rate times 1 / sqrt(L), the best rate is that of any number L of blocks. Here a is the root of the
// number for which a rate was found, so that a model of as many is what it would be without this.
double depth_factor(const OptionValues& options, const Architecture& a) {
  const double tuned = options["tuned_layers"];
  return tuned > 0 ? std::sqrt(tuned / static_cast<double>(a.layers())) : 1;
}

}  // namespace

std::span<const Option> block_options() { return kOptions; }

Result<void> set_blocks(const std::vector<std::string>& settings, Architecture& a) {
  OptionValues options(kOptions);
  std::vector<const Mixer*> mixers = {&kAttentionMixer};
  std::vector<const Router*> routers = {nullptr};
  std::vector<const ChannelMixer*> ffns;  // none: the model's own
  std::vector<const NormKind*> norms;     // the same
  bool any = false;
  double added = 1;                                  // what blocks add to the residual stream, times this
  std::string of_routers, of_attention, of_factors;  // settings that are for these alone
  for (const std::string& text : settings) {
    const Setting setting = TRY(parse_setting(text));
    if (setting.owner != kBlocks) continue;
    any = true;
    if (setting.name == "mixer")
      mixers = TRY(in_turn(text, setting.value, thimble::mixers(), "mixer", "", a.layers()));
    else if (setting.name == "ffn")
      ffns = TRY(in_turn(text, setting.value, channel_mixers(), "FFN", "", a.layers()));
    else if (setting.name == "norm")
      norms = TRY(in_turn(text, setting.value, thimble::norms(), "norm", "", a.layers()));
    else if (setting.name == "router")
      routers = TRY(in_turn(text, setting.value, thimble::routers(), "router", kPlain, a.layers()));
    else
      CHECK_OK(options.set(setting.owner, setting.name, setting.value));
    if (setting.name == "window")
      of_attention = text;
    else if (setting.name == "ffn_rank")
      of_factors = text;
    else if (setting.name == "tuned_layers")
      added = depth_factor(options, a);
    else if (setting.name == "coupled")
      a.coupled = options["coupled"] > 0;
    else if (setting.name == "denoises")
      a.denoises = options["denoises"] > 0;
    else if (options.has(setting.name))
      of_routers = text;
  }
  if (!any) return {};
  if (!of_routers.empty() && std::ranges::all_of(routers, [](const Router* r) { return r == nullptr; }))
    return fail(ErrorCode::invalid_argument, "--set {}: no block is routed; add --set {}.router=", of_routers, kBlocks);
  if (!of_routers.empty()) CHECK_OK(check_router_settings(routers, options));
  if (!of_attention.empty() && std::ranges::all_of(mixers, [](const Mixer* m) { return m->mix != nullptr; }))
    return fail(ErrorCode::invalid_argument, "--set {}: no block has attention", of_attention);
  if (!of_factors.empty() && std::ranges::none_of(ffns, &ChannelMixer::factored))
    return fail(ErrorCode::invalid_argument, "--set {}: no FFN is of low rank; add --set {}.ffn={}", of_factors,
                kBlocks, kLowRankFfn.name);
  a.family = kThimbleFamily.name;
  const auto rank = options["ffn_rank"] > 0 ? static_cast<int64_t>(options["ffn_rank"]) : usual_rank(a.width);
  if (!of_factors.empty() && rank > a.width)
    return fail(ErrorCode::invalid_argument,
                "--set {}: matrices of this model have {} singular vectors; give a rank of at "
                "most that, or leave it out for {}",
                of_factors, a.width, usual_rank(a.width));
  for (size_t i = 0; i < a.blocks.size(); ++i) {
    Block& block = a.blocks[i];
    block.attention.window = static_cast<int64_t>(options["window"]);
    block.residual_scale = added;
    if (const Router* const router = routers[i % routers.size()]) block.ffn.routing = routing_of(*router, options);
    if (!ffns.empty()) set_channel_mixer(block.ffn, *ffns[i % ffns.size()], rank);
    if (const Mixer* const mixer = mixers[i % mixers.size()]; mixer->mix) set_mixer(block, *mixer);
    if (!norms.empty()) block.before_mixer = block.before_ffn = new_norm(*norms[i % norms.size()]);
  }
  if (!norms.empty()) a.final_norm = new_norm(*norms.back());
  // Rows of the embedding begin small, which statistics of a row would make up for. Zhu et al. 2025 scale them too, by
  // a factor that learns.
  if (std::ranges::any_of(norms, &NormKind::elementwise)) a.embedding_scale = std::sqrt(static_cast<double>(a.width));
  return check(a, "--set block.*");
}

}  // namespace thimble
