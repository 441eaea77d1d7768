// Which layers of a model an adapter is for, and which values train, by its configuration and what its file has.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/adapter.h"
#include "adapters/gguf_adapter.h"
#include "adapters/modules.h"
#include "adapters/peft_config.h"
#include "core/count.h"
#include "models/families.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

// Whether the file has tensors that a technique adds to a module.
bool adapts(const Adapter& adapter, const std::string& owner) {
  constexpr std::string_view kWhole[] = {"weight", "bias", "base_layer.weight", "base_layer.bias"};
  const std::string key = tensor_key(owner) + ".";
  for (auto at = adapter.tensors.lower_bound(key); at != adapter.tensors.end() && at->first.starts_with(key); ++at)
    if (std::ranges::find(kWhole, std::string_view(at->first).substr(key.size())) == std::end(kWhole)) return true;
  return false;
}

AdapterTensor whole_tensor(const ModelModule& module, std::string_view between) {
  AdapterTensor tensor{.value = module.tensor, .stored = fmt::format("model.{}.", module.owner)};
  if (!between.empty()) tensor.stored += std::string(between) + ".";
  tensor.stored += module.suffix;
  const bool part = module.whole != module.shape[0];
  tensor.whole = part ? module.shape.with_first(module.whole) : module.shape;
  if (part) tensor.rows = module.rows;
  if (module.transposed && module.suffix == "weight")
    tensor.whole = {module.shape[1], module.whole}, tensor.transposed = true;
  tensor.head_dim = module.head_dim, tensor.interleaved = module.interleaved;
  return tensor;
}

// What the embedding of the family's files multiplies its rows with, which the model does afterwards.
double row_scale_of(const Architecture& architecture) {
  const Family* const family = find_family(architecture.family);
  return family && family->scales_rows ? architecture.embedding_scale : 1;
}

// Which layers are adapted and which values train, by a configuration; `there` says what there are tensors of.
class Resolver {
 public:
  using There = std::function<bool(const ModelModule& module, const Selection& selection)>;

  Resolver(const Rewrite& rewrite, const Ordered& config, const Architecture& architecture, std::string source,
           std::function<bool(const std::string& value)> overwrites = nullptr)
      : rewrite_(rewrite),
        config_(config),
        overwrites_(std::move(overwrites)),
        row_scale_(row_scale_of(architecture)),
        tied_(architecture.tied),
        layers_(static_cast<int64_t>(architecture.blocks.size())),
        source_(std::move(source)) {
    modules_ = model_modules(architecture);
  }

  Result<RewriteSpec> resolve(const Adapter* adapter) {
    adapter_ = adapter;
    RewriteSpec spec{.rewrite = &rewrite_, .options = TRY(peft_options(rewrite_, config_, source_))};
    spec.given = adapter != nullptr;
    const Selection selection = TRY(Selection::read(config_, source_));
    std::set<std::string> adapted;  // owners
    for (const ModelModule& module : modules_) {
      if (!rewrite_.adapts() || module.suffix != "weight" || module.shape.rank() != 2) continue;
      if (!rewrite_.of_layers() && module.name != "model.embed_tokens") continue;
      const bool taken = !rewrite_.of_layers() || TRY(selection.takes(module));
      const bool there =
          !adapter || !rewrite_.of_layers() || (rewrite_.shared ? taken : adapts(*adapter, module.owner));
      if (adapter && there && !taken)
        return fail(
            ErrorCode::unsupported,
            "reading {}: there are tensors of '{}', which target_modules and what else the configuration says do "
            "not name; name it in target_modules, or leave them out",
            source_, module.owner);
      if (adapter && taken && !there) CHECK_OK(check_absent(module, spec.options));
      if (!there || !taken) continue;
      CHECK_OK(add(module, spec));
      adapted.insert(module.owner);
    }
    set_parts(spec);
    const auto embedding = spec.modules.find("model.embed_tokens");
    if (rewrite_.attend && embedding != spec.modules.end()) order_as_keys(embedding->second);
    if (rewrite_.with_tied_head && tied_ && embedding != spec.modules.end()) {
      AdaptedModule head = embedding->second;
      head.name = "lm_head";
      spec.modules["lm_head"] = std::move(head);
    }
    set_kinds(spec);
    int64_t in = 0, out = 0;
    for (const ModelModule& module : modules_)
      if (spec.modules.contains(module.name) && module.suffix == "weight")
        in = std::max(in, module.shape[1]), out = std::max(out, module.whole);
    for (auto& [name, module] : spec.modules) module.largest_in = in, module.largest_out = out;
    CHECK_OK(add_trained(adapter, selection, adapted, spec));
    return spec;
  }

 private:
  // A layer without tensors is one that was not adapted, unless the configuration says which of its numbers were.
  Result<void> check_absent(const ModelModule& module, const OptionValues& all) const {
    if (!rewrite_.settling) return {};
    const OptionValues options = TRY(peft_options_of(rewrite_, config_, all, module, source_));
    for (const Option& option : rewrite_.options)
      if (option.is_list() && !options.list(option.name).empty())
        return fail(ErrorCode::corrupt, "reading {}: it says the {} of '{}' that were trained, and has no tensor of it",
                    source_, option.name, module.owner);
    return {};
  }

  // What is for attentions has elements of heads in the order of their keys.
  void order_as_keys(AdaptedModule& module) const {
    const auto keys = std::ranges::find_if(
        modules_, [](const ModelModule& m) { return m.name.ends_with("k_proj") && m.head_dim > 0; });
    if (keys != modules_.end()) module.head_dim = keys->head_dim, module.interleaved = keys->interleaved;
  }

  // Layers that are one module of the file know each other.
  static void set_parts(RewriteSpec& spec) {
    std::map<std::string, std::vector<AdaptedModule::Part>> parts;  // by owner
    for (const auto& [name, m] : spec.modules) parts[m.owner].push_back({name, m.rows, m.head_dim, m.interleaved});
    for (auto& [name, module] : spec.modules)
      if (const auto& all = parts[module.owner]; all.size() > 1) module.parts = all;
  }

  // Where layers of one place differ in shape, their kind says the shape too.
  void set_kinds(RewriteSpec& spec) const {
    std::map<std::string, std::map<std::string, std::vector<AdaptedModule*>>> kinds;  // by place, by shape
    for (const ModelModule& m : modules_) {
      const auto found = spec.modules.find(m.name);
      if (found != spec.modules.end() && m.suffix == "weight")
        kinds[place_of(m.name)][m.shape.text()].push_back(&found->second);
    }
    for (const auto& [place, shapes] : kinds)
      for (const auto& [shape, layers] : shapes)
        for (AdaptedModule* const layer : layers) {
          layer->kind = shapes.size() == 1 ? place : fmt::format("{} {}", place, shape);
          layer->alike = static_cast<int64_t>(layers.size());
        }
  }
  static constexpr std::string_view kBlocks = "model.layers.";
  // 3 of "model.layers.3.self_attn.q_proj"; -1 of what is in no block.
  static int64_t layer_of(const std::string& name) {
    return name.starts_with(kBlocks) ? std::strtoll(name.c_str() + kBlocks.size(), nullptr, 10) : -1;
  }
  // "self_attn.q_proj" of "model.layers.3.self_attn.q_proj".
  static std::string place_of(const std::string& name) {
    return name.starts_with(kBlocks) ? name.substr(name.find('.', kBlocks.size()) + 1) : name;
  }

  Result<void> add(const ModelModule& m, RewriteSpec& spec) {
    const bool part = rewrite_.whole && m.whole != m.shape[0];
    if (part || (!rewrite_.by_rows && (m.whole != m.shape[0] || (m.head_dim > 0 && m.interleaved))))
      return fail(
          ErrorCode::unsupported,
          "{}: what {} adds to '{}' does not follow rows, which this model has in another order or as part of a "
          "larger matrix; {}",
          adapter_ ? fmt::format("reading {}", source_) : source_, rewrite_.name, m.owner,
          adapter_ ? "merge the adapter with PEFT" : "leave it out with --target");
    OptionValues options = TRY(peft_options_of(rewrite_, config_, spec.options, m, source_));
    if (rewrite_.check)
      if (const auto fits = rewrite_.check(options, m.shape[1], m.whole); !fits)
        return fail(fits.error().code, "{}: '{}': {}", source_, m.owner, fits.error().message);
    spec.modules[m.name] = {m.name, m.owner, m.rows, m.whole, m.head_dim,        m.interleaved,
                            0,      0,       1,      {},      std::move(options)};
    AdaptedModule& module = spec.modules[m.name];
    module.in_group = m.in_group;
    module.layer = layer_of(m.name), module.layers = layers_;
    if (m.name == "model.embed_tokens") module.row_scale = row_scale_;
    return {};
  }

  // Biases, modules_to_save, values that the technique trains itself, and what a file has of the base model.
  Result<void> add_trained(const Adapter* adapter, const Selection& selection, const std::set<std::string>& adapted,
                           RewriteSpec& spec) {
    const auto found = config_.find("bias");
    const std::string bias = found != config_.end() && found->is_string() ? found->get<std::string>() : "none";
    const auto saved = config_.find("modules_to_save");
    for (const ModelModule& m : modules_) {
      const bool own = adapted.contains(m.owner);
      if (rewrite_.trains && rewrite_.trains(m.tensor) && TRY(taken_of_own(selection, m)))
        spec.trained.push_back(whole_tensor(m, rewrite_.trained_as));
      else if (m.suffix == "bias" && bias != "none" && (bias == "all" || own))
        spec.trained.push_back(whole_tensor(m, own ? "base_layer" : ""));
      else if ((saved != config_.end() && is_saved(*saved, m)) || is_own_head(adapter, m))
        CHECK_OK(save(m, spec));
      else if (adapter)
        overwrite(*adapter, m, spec);
      else if (overwrites_ && overwrites_(m.tensor))
        overwrite(m, own ? "base_layer" : "", spec);
    }
    return {};
  }

  // Techniques that have no modules_to_save keep a head for labels all the same.
  static bool is_own_head(const Adapter* adapter, const ModelModule& m) {
    return adapter && adapter->labels && m.tensor == kScoreHead && adapter->tensors.contains(kScoreHead);
  }

  // target_modules of such a technique names modules as they are; without it all that it is for.
  Result<bool> taken_of_own(const Selection& selection, const ModelModule& m) const {
    const auto targets = config_.find("target_modules");
    return targets == config_.end() || targets->is_null() ? Result<bool>(true) : selection.takes(m);
  }

  Result<void> save(const ModelModule& m, RewriteSpec& spec) {
    if (tied_ && m.tensor == modules_.front().tensor)
      return fail(ErrorCode::unsupported,
                  "reading {}: modules_to_save names '{}', which in this model is one matrix with the {}: there is no "
                  "place for a copy of its own here; merge the adapter into the model",
                  source_, m.owner, m.name == "lm_head" ? "embedding" : "head");
    spec.trained.push_back(whole_tensor(m, ""));
    return {};
  }

  // Tensors of the base model in the file, which PEFT puts in place of the model's: embeddings that were resized.
  void overwrite(const Adapter& adapter, const ModelModule& m, RewriteSpec& spec) {
    for (const std::string_view between : {"", "base_layer"})
      if (adapter.tensors.contains(tensor_key(whole_tensor(m, between).stored))) return overwrite(m, between, spec);
  }
  static void overwrite(const ModelModule& m, std::string_view between, RewriteSpec& spec) {
    if (std::ranges::find(spec.trained, m.tensor, &AdapterTensor::value) != spec.trained.end()) return;  // a tied head
    spec.trained.push_back(whole_tensor(m, between));
    spec.trained.back().trained = false;
  }

  const Rewrite& rewrite_;
  const Ordered& config_;
  std::function<bool(const std::string& value)> overwrites_;
  const Adapter* adapter_ = nullptr;
  double row_scale_;
  bool tied_;
  int64_t layers_;
  std::string source_;
  std::vector<ModelModule> modules_;
};

Result<bool> same_bytes(const InputFile& file, const SafetensorsEntry& a, const SafetensorsEntry& b) {
  constexpr uint64_t kPiece = 1 << 18;
  if (a.bytes != b.bytes) return false;
  std::vector<std::byte> one(std::min(a.bytes, kPiece)), other(one.size());
  for (uint64_t at = 0; at < a.bytes; at += kPiece) {
    const auto some = static_cast<size_t>(std::min(kPiece, a.bytes - at));
    CHECK_OK(file.read(a.offset + at, std::span(one).first(some)));
    CHECK_OK(file.read(b.offset + at, std::span(other).first(some)));
    if (!std::equal(one.begin(), one.begin() + static_cast<std::ptrdiff_t>(some), other.begin())) return false;
  }
  return true;
}

// PEFT writes what it has of a head that is the embedding once more, under the head's name.
Result<void> drop_tied_copies(Adapter& adapter, const Architecture& architecture) {
  if (!architecture.tied) return {};
  const std::vector<ModelModule> modules = model_modules(architecture);
  const std::string embedding = tensor_key(modules.front().owner) + ".", head = tensor_key(modules.back().owner) + ".";
  for (auto at = adapter.tensors.begin(); at != adapter.tensors.end();) {
    const bool copies = at->first.starts_with(head);
    const auto own = copies ? adapter.tensors.find(embedding + at->first.substr(head.size())) : adapter.tensors.end();
    if (own == adapter.tensors.end()) {
      ++at;
      continue;
    }
    if (!TRY(same_bytes(*adapter.weights, own->second, at->second)))
      return fail(ErrorCode::unsupported, "reading {}: '{}' and '{}' differ, and are for one matrix in this model",
                  adapter.weights->path(), own->second.name, at->second.name);
    at = adapter.tensors.erase(at);
  }
  return {};
}

}  // namespace

Result<RewriteSpec> rewrite_of(Adapter& adapter, const Architecture& architecture) {
  if (adapter.gguf) CHECK_OK(name_as_peft(adapter, architecture));
  CHECK_OK(drop_tied_copies(adapter, architecture));
  const std::string source = adapter.gguf ? adapter.path : adapter.path + kAdapterConfig;
  if (adapter.labels && !architecture.labels)
    return fail(ErrorCode::unsupported, "reading {}: it says labels of texts, and the model the next token", source);
  Resolver resolver(*adapter.rewrite, *adapter.config, architecture, source);
  RewriteSpec spec = TRY(resolver.resolve(&adapter));
  for (auto& [name, module] : spec.modules) module.scale = adapter.scale, module.scope = adapter.scope;
  if (adapter.scale != 1 && !spec.trained.empty())
    return fail(ErrorCode::unsupported,
                "--adapter-scale {}: {} brings '{}' whole, in place of the model's, which no scale can be given",
                adapter.scale, adapter.path, spec.trained.front().value);
  if (spec.modules.empty() && spec.trained.empty())
    return fail(ErrorCode::invalid_argument,
                "reading {}: '{}' and the others have no place in this model: the adapter belongs to another one",
                adapter.weights->path(), adapter.tensors.begin()->second.name);
  return spec;
}

Result<RewriteSpec> configured_rewrite(const Rewrite& rewrite, const Ordered& config, const Architecture& architecture,
                                       const std::string& source,
                                       const std::function<bool(const std::string& value)>& overwrites) {
  return Resolver(rewrite, config, architecture, source, overwrites).resolve(nullptr);
}

Result<void> check_complete(const Adapter& adapter, const RewriteSpec& spec, const Architecture& architecture) {
  const Rewrite& rewrite = *adapter.rewrite;
  if (!rewrite.of_layers() || rewrite.settling) return {};  // what is settled may be that a layer has none
  const RewriteSpec named = TRY(configured_rewrite(rewrite, *adapter.config, architecture, adapter.path));
  std::set<std::string> absent;
  for (const auto& [name, module] : named.modules)
    if (!spec.modules.contains(name)) absent.insert(module.owner);
  if (absent.empty()) return {};
  return fail(ErrorCode::unsupported,
              "--adapter {}: to train on, it should have tensors of every layer that its configuration names, and has "
              "none of '{}'{}; say in its target_modules the names of those it has",
              adapter.path, *absent.begin(),
              absent.size() > 1 ? fmt::format(" and {}", counted(absent.size() - 1, "other")) : "");
}

}  // namespace thimble
