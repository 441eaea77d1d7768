#include "files/adapter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "files/json.h"

namespace thimble {
namespace {

constexpr const char* kSystemFile = "/system_prompt.txt";

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSuffixA = ".lora_A.weight", kSuffixB = ".lora_B.weight";
constexpr int64_t kLargestRank = 1 << 16;

bool matches(const std::string& module, const std::string& key) {
  return module == key ||
         (module.size() > key.size() && module.ends_with(key) && module[module.size() - key.size() - 1] == '.');
}

template <class T>
T by_pattern(const std::map<std::string, T>& pattern, const std::string& module, T otherwise) {
  for (const auto& [key, value] : pattern) {
    if (matches(module, key)) return value;
  }
  return otherwise;
}

// Fields that must be absent, null, false or empty, for otherwise the adapter is more than LoRA.
constexpr std::array<std::string_view, 13> kRefused = {
    "use_dora",          "fan_in_fan_out",          "lora_bias",
    "modules_to_save",   "layer_replication",       "use_qalora",
    "target_parameters", "megatron_config",         "use_bdlora",
    "arrow_config",      "trainable_token_indices", "alora_invocation_tokens",
    "corda_config"};

bool is_off(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

Result<void> refuse_others(const JsonFields& fields) {
  const std::string type = TRY(fields.get<std::string>("peft_type"));
  if (type != "LORA") {
    return fail(ErrorCode::unsupported, "reading {}: peft_type is '{}'; thimble reads LORA only", fields.source(),
                type);
  }
  const std::string task = TRY(fields.get_or<std::string>("task_type", "CAUSAL_LM"));
  if (task != "CAUSAL_LM") {
    return fail(ErrorCode::unsupported, "reading {}: task_type is '{}'; expected CAUSAL_LM", fields.source(), task);
  }
  const std::string bias = TRY(fields.get_or<std::string>("bias", "none"));
  if (bias != "none") {
    return fail(ErrorCode::unsupported, "reading {}: bias is '{}'; thimble reads adapters that train no bias ('none')",
                fields.source(), bias);
  }
  for (std::string_view key : kRefused) {
    const Json* value = fields.find(key);
    if (value && !is_off(*value)) {
      return fail(ErrorCode::unsupported, "reading {}: '{}' is set, which thimble does not support", fields.source(),
                  key);
    }
  }
  // These start from a changed base model, which the folder does not hold.
  const Json* start = fields.find("init_lora_weights");
  if (!start || !start->is_string()) return {};
  const std::string name = start->get<std::string>();
  for (std::string_view changed : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
    if (name.starts_with(changed)) {
      return fail(ErrorCode::unsupported,
                  "reading {}: init_lora_weights '{}' changes the base model; convert the adapter "
                  "to plain LoRA first (path_initial_model_for_weight_conversion in PEFT)",
                  fields.source(), name);
    }
  }
  return {};
}

// PEFT takes the keys as regular expressions; plain names are what it writes itself.
Result<void> check_pattern_key(const std::string& key, const std::string& source) {
  const bool plain = !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '.';
  });
  if (plain) return {};
  return fail(ErrorCode::unsupported,
              "reading {}: the pattern '{}' is a regular expression; thimble supports names only", source, key);
}

template <class T>
Result<std::map<std::string, T>> read_pattern(const JsonFields& fields, std::string_view key) {
  std::map<std::string, T> pattern;
  if (!fields.has(key)) return pattern;
  const JsonFields entries = TRY(fields.object(key));
  for (const auto& [name, value] : entries.json().items()) {
    CHECK_OK(check_pattern_key(name, entries.source()));
    pattern[name] = TRY(entries.get<T>(name));
  }
  return pattern;
}

Result<void> read_targets(const JsonFields& fields, LoraConfig& config) {
  const Json* targets = fields.find("target_modules");
  if (!targets) return {};
  if (targets->is_string()) return config.target_pattern = targets->get<std::string>(), Result<void>();
  if (!targets->is_array()) {
    return fail(ErrorCode::corrupt, "reading {}: 'target_modules' should be a list of names or a string",
                fields.source());
  }
  for (const Json& target : *targets) {
    if (!target.is_string()) {
      return fail(ErrorCode::corrupt, "reading {}: 'target_modules' should hold strings only", fields.source());
    }
    config.targets.push_back(target.get<std::string>());
  }
  return {};
}

Result<LoraConfig> read_config(const std::string& path) {
  const Json json = TRY(read_json_file(path));
  const JsonFields fields = TRY(JsonFields::of(json, path));
  CHECK_OK(refuse_others(fields));
  LoraConfig config;
  config.rank = TRY(fields.get<int64_t>("r"));
  config.alpha = TRY(fields.get_or<double>("lora_alpha", 8));
  config.dropout = TRY(fields.get_or<double>("lora_dropout", 0));
  config.rslora = TRY(fields.get_or<bool>("use_rslora", false));
  config.base_model = TRY(fields.get_or<std::string>("base_model_name_or_path", ""));
  config.rank_pattern = TRY(read_pattern<int64_t>(fields, "rank_pattern"));
  config.alpha_pattern = TRY(read_pattern<double>(fields, "alpha_pattern"));
  CHECK_OK(read_targets(fields, config));
  if (config.rank < 1 || config.rank > kLargestRank) {
    return fail(ErrorCode::corrupt, "reading {}: 'r' should be in 1..{}, found {}", path, kLargestRank, config.rank);
  }
  for (const auto& [name, rank] : config.rank_pattern) {
    if (rank < 1 || rank > kLargestRank) {
      return fail(ErrorCode::corrupt, "reading {}: rank_pattern of '{}' should be in 1..{}, found {}", path, name,
                  kLargestRank, rank);
    }
  }
  if (!(config.dropout >= 0 && config.dropout < 1)) {
    return fail(ErrorCode::corrupt, "reading {}: 'lora_dropout' should be in [0, 1), found {}", path, config.dropout);
  }
  return config;
}

Result<void> check_module(const LoraModule& module, const LoraConfig& config, const std::string& path) {
  const SafetensorsEntry* const parts[] = {&module.a, &module.b};
  for (const SafetensorsEntry* entry : parts) {
    if (entry->name.empty()) {
      return fail(ErrorCode::corrupt, "reading {}: module '{}' has only one of lora_A and lora_B", path, module.module);
    }
    if (!entry->codec) {
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is of dtype {}, which thimble has no codec for",
                  path, entry->name, entry->dtype);
    }
  }
  const int64_t rank = config.rank_of(module.module);
  const bool fits = module.a.shape.rank() == 2 && module.b.shape.rank() == 2 && module.a.shape[0] == rank &&
                    module.b.shape[1] == rank;
  if (fits) return {};
  return fail(ErrorCode::corrupt,
              "reading {}: module '{}' of rank {} should have lora_A [{}, in] and lora_B [out, {}], "
              "found {} and {}",
              path, module.module, rank, rank, rank, module.a.shape.text(), module.b.shape.text());
}

}  // namespace

int64_t LoraConfig::rank_of(const std::string& module) const { return by_pattern(rank_pattern, module, rank); }

double LoraConfig::scale_of(const std::string& module) const {
  const double r = static_cast<double>(rank_of(module));
  return by_pattern(alpha_pattern, module, alpha) / (rslora ? std::sqrt(r) : r);
}

Result<LoraAdapter> open_lora_adapter(const std::string& folder) {
  LoraConfig config = TRY(read_config(folder + "/adapter_config.json"));
  if (is_file(folder + kSystemFile)) config.system_prompt = TRY(read_text_file(folder + kSystemFile, 1 << 20));
  SafetensorsFile file = TRY(SafetensorsFile::open(folder + "/adapter_model.safetensors"));
  std::map<std::string, LoraModule> modules;
  for (const SafetensorsEntry& entry : file.entries()) {
    std::string_view name = entry.name;
    const bool is_a = name.ends_with(kSuffixA);
    const bool named = name.starts_with(kPrefix) && (is_a || name.ends_with(kSuffixB)) &&
                       name.size() > kPrefix.size() + kSuffixA.size();
    if (!named) {
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is not '{}<module>{}' or '...{}'", file.path(), name,
                  kPrefix, kSuffixA, kSuffixB);
    }
    name.remove_prefix(kPrefix.size());
    name.remove_suffix(kSuffixA.size());
    LoraModule& module = modules[std::string(name)];
    (is_a ? module.a : module.b) = entry;
  }
  if (modules.empty()) return fail(ErrorCode::corrupt, "reading {}: it holds no LoRA tensors", file.path());
  LoraAdapter adapter{std::move(config), {}, std::move(file).take_file()};
  for (auto& [name, module] : modules) {
    module.module = name;
    module.rank = adapter.config.rank_of(name);
    module.scale = adapter.config.scale_of(name);
    CHECK_OK(check_module(module, adapter.config, adapter.weights.path()));
    adapter.modules.push_back(std::move(module));
  }
  return adapter;
}

namespace {

std::string config_json(const LoraConfig& config) {
  nlohmann::ordered_json json;
  json["peft_type"] = "LORA";
  json["task_type"] = "CAUSAL_LM";
  json["base_model_name_or_path"] = config.base_model;
  json["r"] = config.rank;
  json["lora_alpha"] = config.alpha;
  if (config.alpha == std::floor(config.alpha) && std::abs(config.alpha) < 1e15) {
    json["lora_alpha"] = static_cast<int64_t>(config.alpha);  // PEFT declares it an integer
  }
  json["lora_dropout"] = config.dropout;
  json["use_rslora"] = config.rslora;
  json["target_modules"] = config.targets;
  if (!config.target_pattern.empty()) json["target_modules"] = config.target_pattern;
  json["rank_pattern"] = config.rank_pattern;
  json["alpha_pattern"] = config.alpha_pattern;
  json["bias"] = "none";
  json["fan_in_fan_out"] = false;
  json["use_dora"] = false;
  json["modules_to_save"] = nullptr;
  json["inference_mode"] = true;
  json["init_lora_weights"] = true;
  return json_text(json);
}

Shape shape_of(const LoraShape& module, LoraPart part) {
  return part == LoraPart::a ? Shape{module.rank, module.in} : Shape{module.out, module.rank};
}

}  // namespace

Result<void> write_lora_adapter(const std::string& folder, const LoraConfig& config, std::span<const LoraShape> modules,
                                const ReadLoraRows& read) {
  constexpr int64_t kPiece = 1 << 16;  // elements
  CHECK_OK(make_directories(folder));
  std::vector<SafetensorsTensor> tensors;
  for (const LoraShape& module : modules) {
    if (module.rank != config.rank_of(module.module)) {
      return fail(ErrorCode::invalid_argument, "writing {}: module '{}' has rank {}, but the configuration says {}",
                  folder, module.module, module.rank, config.rank_of(module.module));
    }
    tensors.push_back({fmt::format("{}{}{}", kPrefix, module.module, kSuffixA), "F32", shape_of(module, LoraPart::a)});
    tensors.push_back({fmt::format("{}{}{}", kPrefix, module.module, kSuffixB), "F32", shape_of(module, LoraPart::b)});
  }
  SafetensorsWriter writer = TRY(SafetensorsWriter::create(folder + "/adapter_model.safetensors", tensors));
  std::vector<float> piece;
  for (const LoraShape& module : modules) {
    for (LoraPart part : {LoraPart::a, LoraPart::b}) {
      const Shape shape = shape_of(module, part);
      const int64_t step = std::max<int64_t>(1, kPiece / std::max<int64_t>(1, shape[1]));
      for (int64_t row = 0; row < shape[0]; row += step) {
        const int64_t rows = std::min(step, shape[0] - row);
        piece.resize(static_cast<size_t>(rows * shape[1]));
        CHECK_OK(read(module, part, row, rows, piece));
        CHECK_OK(writer.write(std::as_bytes(std::span(piece))));
      }
    }
  }
  CHECK_OK(writer.finish());
  std::error_code none;
  std::filesystem::remove(folder + kSystemFile, none);
  if (!config.system_prompt.empty()) CHECK_OK(write_text_file(folder + kSystemFile, config.system_prompt));
  return write_text_file(folder + "/adapter_config.json", config_json(config));
}

}  // namespace thimble
