#include "models/quantised.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "core/warnings.h"

namespace thimble {
namespace {

constexpr std::array kMethods = {&kQuantAwq, &kQuantBitsandbytes, &kQuantCompressedTensors, &kQuantFbgemmFp8,
                                 &kQuantFp8, &kQuantGptq,         &kQuantModelopt};
constexpr uint64_t kLargestConfig = 16u << 20;

// Files of older tools name no method: bitsandbytes says how many bits, AutoGPTQ writes a file of its own.
Result<std::string> method_name(const JsonFields& config, bool own_file) {
  if (config.has("quant_method") || config.has("load_in_8bit") || config.has("load_in_4bit"))
    return config.get_or<std::string>("quant_method", "bitsandbytes");
  if (own_file) return std::string("gptq");
  return fail(ErrorCode::unsupported, "reading {}: the weights are quantised, and 'quant_method' does not say how",
              config.source());
}

Result<const QuantMethod*> method_named(const std::string& name, const std::string& source) {
  const auto found = std::ranges::find_if(kMethods, [&](const QuantMethod* m) { return m->name == name; });
  if (found != kMethods.end()) return *found;
  std::vector<std::string_view> names;
  for (const QuantMethod* method : kMethods) names.push_back(method->name);
  return fail(ErrorCode::unsupported,
              "reading {}: the weights are quantised by '{}', which thimble does not read; it reads {}. Start from the "
              "unquantised model or from a GGUF file",
              source, name, fmt::join(names, ", "));
}

Result<const Codec*> compute_codec(const JsonFields& config) {
  constexpr std::pair<std::string_view, const Codec*> kNames[] = {
      {"float32", &kF32}, {"bfloat16", &kBf16}, {"float16", &kF16}};
  const std::string_view key = config.has("dtype") ? "dtype" : "torch_dtype";
  if (!config.has(key)) return nullptr;
  const std::string name = TRY(config.get<std::string>(key));
  for (const auto& [known, codec] : kNames)
    if (known == name) return codec;
  return fail(ErrorCode::unsupported, "reading {}: '{}' is '{}'; expected float32, bfloat16 or float16",
              config.source(), key, name);
}

// Of what its configuration says of activations: they are quantised as well where the checkpoint is from, whose numbers
// differ from these for that.
bool quantises_activations(const Json& config) {
  const auto set = [](const Json& object, const char* key) {
    return object.contains(key) && !object[key].is_null() && object[key] != false;
  };
  for (const char* key : {"activation_scheme", "activation_scale_ub", "kv_cache_scheme", "load_in_8bit"})
    if (set(config, key)) return true;
  const auto groups = config.find("config_groups");
  if (groups == config.end() || !groups->is_object()) return false;
  return std::ranges::any_of(*groups, [&](const Json& group) {
    return group.is_object() && (set(group, "input_activations") || set(group, "output_activations"));
  });
}

}  // namespace

std::span<const QuantMethod* const> quant_methods() { return kMethods; }

Result<std::optional<Quantisation>> quantisation_of(const std::string& folder) {
  const std::string file = folder + "/config.json", own = folder + "/quantize_config.json";
  const Json json = TRY(read_json_file(file, kLargestConfig));
  const JsonFields fields = TRY(JsonFields::of(json, file));
  const bool own_file = !fields.has("quantization_config") && is_file(own);
  if (!fields.has("quantization_config") && !own_file) return std::nullopt;
  Quantisation found{.source = own_file ? own : file};
  found.config = own_file ? TRY(read_json_file(own, kLargestConfig)) : *fields.find("quantization_config");
  const JsonFields config = TRY(JsonFields::of(*found.config, found.source));
  found.method = TRY(method_named(TRY(method_name(config, own_file)), found.source));
  CHECK_OK(found.method->check(config));
  if (quantises_activations(*found.config)) warn(std::string(kFullActivations));
  found.dtype = TRY(compute_codec(fields));
  return found;
}

}  // namespace thimble
