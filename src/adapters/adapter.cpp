#include "adapters/adapter.h"

#include <algorithm>
#include <array>
#include <set>

#include "adapters/gguf_adapter.h"
#include "adapters/modules.h"
#include "adapters/peft_config.h"
#include "models/hf_labels.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

// Parts of names that tools put before those of a model's modules, or between.
constexpr std::string_view kBefore[] = {"base_model", "model", "language_model", "transformer", "module"};
constexpr std::string_view kBetween[] = {"default", "modules_to_save"};

template <class Names>
bool among(std::string_view name, const Names& names) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// In the order of the file, which patterns need.
Result<Ordered> read_ordered(const std::string& path) {
  return parse_ordered_json(TRY(read_text_file(path, 1u << 20)), path);
}

// What the head of an adapter says; nothing where it has none. PEFT keeps no names of labels: where our file is
// missing, they are numbers.
Result<std::optional<Labels>> labels_of(const Adapter& adapter) {
  const auto head = adapter.tensors.find(kScoreHead);
  if (head == adapter.tensors.end()) return std::optional<Labels>();
  const int64_t rows = head->second.shape.rank() == 2 ? head->second.shape[0] : 0;
  const std::string path = adapter.path + kAdapterLabels;
  const bool named = is_file(path);
  const Json json = named ? TRY(read_json_file(path)) : Json{{"num_labels", rows}};
  const Labels labels = TRY(labels_from(TRY(JsonFields::of(json, named ? path : adapter.path + kAdapterWeights))));
  if (labels.count() == rows) return std::optional(labels);
  return fail(ErrorCode::corrupt, "reading {}: it names {} labels, and '{}' is for {}", path, labels.count(),
              kScoreHead, rows);
}

Result<Adapter> open_folder(const std::string& folder) {
  Adapter adapter;
  adapter.path = folder;
  const std::string config = folder + kAdapterConfig;
  adapter.config = TRY(read_ordered(config));
  adapter.rewrite = TRY(check_peft_config(adapter.config, config));
  TRY(peft_options(*adapter.rewrite, adapter.config, config));
  TRY(Selection::read(adapter.config, config));
  if (is_file(folder + kSystemPrompt)) adapter.system_prompt = TRY(read_text_file(folder + kSystemPrompt, 1 << 20));
  if (is_file(folder + kAdapterTemplate))
    adapter.chat_template = TRY(read_text_file(folder + kAdapterTemplate, 4u << 20));
  SafetensorsFile file = TRY(SafetensorsFile::open(folder + kAdapterWeights));
  for (const SafetensorsEntry& entry : file.entries()) {
    if (!entry.codec || entry.codec->block != 1)
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is of dtype {}, which thimble has no codec for",
                  file.path(), entry.name, entry.dtype);
    const auto [place, fresh] = adapter.tensors.try_emplace(tensor_key(entry.name), entry);
    if (!fresh)
      return fail(ErrorCode::corrupt, "reading {}: tensors '{}' and '{}' are for the same", file.path(),
                  place->second.name, entry.name);
  }
  if (adapter.tensors.empty())
    return fail(ErrorCode::corrupt, "reading {}: it holds no tensors of an adapter", file.path());
  adapter.weights = std::move(file).take_file();
  if (says_labels(adapter.config)) adapter.labels = TRY(labels_of(adapter));
  return adapter;
}

// Of several techniques one has the head.
Result<void> check_head(const std::string& path, std::span<const Adapter> adapters) {
  const bool wanted = std::ranges::any_of(adapters, [](const Adapter& a) { return says_labels(a.config); });
  if (!wanted || std::ranges::any_of(adapters, [](const Adapter& a) { return a.labels.has_value(); })) return {};
  return fail(ErrorCode::unsupported, "reading {}: task_type is SEQ_CLS, and there is no tensor '{}' that says labels",
              path, kScoreHead);
}

Result<std::vector<std::string>> read_stack(const std::string& folder) {
  const Ordered json = TRY(read_ordered(folder + kAdapterStack));
  std::vector<std::string> names;
  const auto stack = json.is_object() ? json.find("stack") : json.end();
  constexpr size_t kMost = 16;
  const bool list = json.is_object() && stack != json.end() && stack->is_array() && stack->size() <= kMost;
  for (size_t i = 0; list && i < stack->size(); ++i) {
    const std::string name = (*stack)[i].is_string() ? (*stack)[i].get<std::string>() : "";
    if (name.empty() || name.find('/') != std::string::npos || name.starts_with("."))
      return fail(ErrorCode::corrupt, "reading {}{}: '{}' is not the name of a folder in it", folder, kAdapterStack,
                  name);
    names.push_back(name);
  }
  if (names.empty())
    return fail(ErrorCode::corrupt, "reading {}{}: 'stack' should be a list of up to {} folders", folder, kAdapterStack,
                kMost);
  return names;
}

// Whether the file has tensors that a technique adds to a module.
bool adapts(const Adapter& adapter, const std::string& owner) {
  constexpr std::string_view kWhole[] = {"weight", "bias", "base_layer.weight", "base_layer.bias"};
  const std::string key = tensor_key(owner) + ".";
  for (auto at = adapter.tensors.lower_bound(key); at != adapter.tensors.end() && at->first.starts_with(key); ++at)
    if (!among(std::string_view(at->first).substr(key.size()), kWhole)) return true;
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

// Which layers are adapted and which values train, by a configuration; `there` says what there are tensors of.
class Resolver {
 public:
  using There = std::function<bool(const ModelModule& module, const Selection& selection)>;

  Resolver(const Rewrite& rewrite, const Ordered& config, const Architecture& architecture, std::string source)
      : rewrite_(rewrite),
        config_(config),
        tied_(architecture.tied),
        layers_(static_cast<int64_t>(architecture.blocks.size())),
        source_(std::move(source)) {
    modules_ = model_modules(architecture);
  }

  Result<RewriteSpec> resolve(const Adapter* adapter) {
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
            "not name",
            source_, module.owner);
      if (adapter && taken && !there) CHECK_OK(check_absent(module, spec.options));
      if (!there || !taken) continue;
      CHECK_OK(add(module, spec));
      adapted.insert(module.owner);
    }
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
      return fail(ErrorCode::unsupported,
                  "--method {}: what it adds to '{}' does not follow rows, which this model has in another order or as "
                  "part of a larger matrix; leave it out with --target",
                  rewrite_.name, m.owner);
    OptionValues options = TRY(peft_options_of(rewrite_, config_, spec.options, m, source_));
    if (rewrite_.check)
      if (const auto fits = rewrite_.check(options, m.shape[1], m.whole); !fits)
        return fail(fits.error().code, "{}: '{}': {}", source_, m.owner, fits.error().message);
    spec.modules[m.name] = {m.name, m.owner, m.rows, m.whole, m.head_dim,        m.interleaved,
                            0,      0,       1,      {},      std::move(options)};
    AdaptedModule& module = spec.modules[m.name];
    module.in_group = m.in_group;
    module.layer = layer_of(m.name), module.layers = layers_;
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
    if (tied_ && (m.owner == "lm_head" || m.tensor == modules_.front().tensor))
      return fail(
          ErrorCode::unsupported,
          "reading {}: modules_to_save names '{}', which in this model is one matrix with the {}: PEFT would train "
          "a copy of its own of it; untie the model first",
          source_, m.owner, m.owner == "lm_head" ? "embedding" : "head");
    spec.trained.push_back(whole_tensor(m, ""));
    return {};
  }

  // Tensors of the base model in the file, which PEFT puts in place of the model's: embeddings that were resized.
  void overwrite(const Adapter& adapter, const ModelModule& m, RewriteSpec& spec) {
    for (const std::string_view between : {"", "base_layer"}) {
      AdapterTensor tensor = whole_tensor(m, between);
      if (!adapter.tensors.contains(tensor_key(tensor.stored))) continue;
      tensor.trained = false;
      spec.trained.push_back(std::move(tensor));
      return;
    }
  }

  const Rewrite& rewrite_;
  const Ordered& config_;
  bool tied_;
  int64_t layers_;
  std::string source_;
  std::vector<ModelModule> modules_;
};

}  // namespace

std::string tensor_key(std::string_view name) {
  std::string key;
  bool before = true;
  for (size_t begin = 0; begin <= name.size();) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    before = before && among(part, kBefore);
    if (!before && !among(part, kBetween)) key += (key.empty() ? "" : ".") + std::string(part);
    begin = end + 1;
  }
  return key;
}

Result<std::vector<Adapter>> open_adapters(const std::string& path) {
  std::vector<Adapter> adapters;
  if (is_gguf_adapter(path)) {
    adapters.push_back(TRY(open_gguf_adapter(path)));
    return adapters;
  }
  if (!is_file(path + kAdapterStack)) {
    adapters.push_back(TRY(open_folder(path)));
  } else {
    for (const std::string& name : TRY(read_stack(path)))
      adapters.push_back(TRY(open_folder(fmt::format("{}/{}", path, name))));
  }
  CHECK_OK(check_head(path, adapters));
  return adapters;
}

Result<RewriteSpec> rewrite_of(Adapter& adapter, const Architecture& architecture) {
  if (adapter.gguf) CHECK_OK(name_as_peft(adapter, architecture));
  const std::string source = adapter.gguf ? adapter.path : adapter.path + kAdapterConfig;
  if (adapter.labels && !architecture.labels)
    return fail(ErrorCode::unsupported, "reading {}: it says labels of texts, and the model the next token", source);
  Resolver resolver(*adapter.rewrite, adapter.config, architecture, source);
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
                                       const std::string& source) {
  return Resolver(rewrite, config, architecture, source).resolve(nullptr);
}

namespace {

// What the configuration turns on, as it may ask for more than the file has.
std::string flags_on(const Adapter& adapter) {
  std::string on;
  for (const PeftField& field : adapter.rewrite->form.fields) {
    const auto found = adapter.config.find(std::string(field.field));
    if (field.kind == PeftField::Kind::flag && found != adapter.config.end() && *found == true)
      on += fmt::format("{}'{}'", on.empty() ? "" : ", ", field.field);
  }
  return on.empty() ? on : fmt::format("; adapter_config.json asks for {}", on);
}

}  // namespace

Result<const SafetensorsEntry*> find_entry(const Adapter& adapter, const AdapterTensor& tensor) {
  const auto found = adapter.tensors.find(tensor_key(tensor.file_name()));
  if (found == adapter.tensors.end()) {
    if (tensor.optional) return nullptr;
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is missing{}", adapter.weights->path(), tensor.file_name(),
                flags_on(adapter));
  }
  const SafetensorsEntry& entry = found->second;
  Shape expected = tensor.whole;
  if (adapter.gguf && tensor.transposed) expected = {tensor.whole[1], tensor.whole[0]};
  if (entry.shape != expected)
    return fail(ErrorCode::shape, "reading {}: '{}' is {}, this model needs {}", adapter.weights->path(), entry.name,
                entry.shape.text(), expected.text());
  return &entry;
}

Result<void> check_all_read(std::span<const Adapter> adapters, std::span<const AdapterTensor> tensors) {
  std::set<std::string> read;
  for (const AdapterTensor& tensor : tensors) read.insert(tensor_key(tensor.file_name()));
  for (const Adapter& adapter : adapters)
    for (const auto& [key, entry] : adapter.tensors)
      if (!read.contains(key))
        return fail(ErrorCode::unsupported,
                    "reading {}: tensor '{}' has no place in this model: the adapter is of another model, or more than "
                    "{}",
                    adapter.weights->path(), entry.name, adapter.rewrite->name);
  return {};
}

}  // namespace thimble
