#include "models/hf_config.h"

#include <nlohmann/json.hpp>

#include "core/nearest.h"
#include "files/file.h"
#include "files/json.h"
#include "models/families.h"
#include "models/hf_labels.h"

namespace thimble {

Result<Architecture> parse_config(std::string_view text, const std::string& source) {
  const Json json = TRY(parse_json(text, source));
  const JsonFields fields = TRY(JsonFields::of(json, source));
  const std::string type = TRY(fields.get<std::string>("model_type"));
  const Family* family = find_family(type);
  if (!family) {
    std::vector<std::string_view> names;
    for (const Family* known : families()) names.push_back(known->name);
    return fail(ErrorCode::unsupported, "reading {}: model_type '{}' is not supported; those nearest to it are {}",
                source, type, nearest_names(type, names));
  }
  Architecture a;
  a.family = type;
  HfFields reader(family->sizes, fields);
  family->config(reader, a);
  CHECK_OK(reader.result());
  if (auto labels = TRY(labels_from_config(fields))) a = labelled(std::move(a), std::move(*labels));
  const SizeFields& n = family->sizes;
  CHECK_OK(check(a, source,
                 {.vocab = "vocab_size",
                  .width = n.width,
                  .layers = n.layers,
                  .heads = n.heads,
                  .kv_heads = n.kv_heads,
                  .head_dim = n.head_dim.empty() ? n.width : n.head_dim,
                  .ffn = n.ffn,
                  .context = n.context,
                  .window = "sliding_window",
                  .embedding = "word_embed_proj_dim"}));
  reader.warn_of_unknown(type);
  return a;
}

Result<Architecture> architecture_from_config(const std::string& path) {
  return parse_config(TRY(read_text_file(path, 1u << 20)), path);
}

Result<SpecialIds> special_ids_from_config(const std::string& path) {
  const Json json = TRY(read_json_file(path));
  const auto ids = [&json](const char* name) {
    std::vector<int64_t> out;
    const auto found = json.find(name);
    if (found == json.end()) return out;
    for (const Json& id : found->is_array() ? *found : Json::array({*found}))
      if (id.is_number_integer()) out.push_back(id.get<int64_t>());
    return out;
  };
  const auto id = [&](const char* name) -> std::optional<int64_t> {
    const std::vector<int64_t> all = ids(name);
    return all.empty() ? std::nullopt : std::optional(all.front());
  };
  return SpecialIds{id("bos_token_id"), ids("eos_token_id"), id("pad_token_id")};
}

Result<std::string> config_text(const Architecture& a, const ConfigExtras& extras) {
  const Family* family = find_family(a.family);
  if (!family)
    return fail(ErrorCode::unsupported, "writing config.json: transformers' family of '{}' is not known", a.family);
  HfFields writer(family->sizes);
  writer.json()["architectures"] = {a.labels ? classifier_class(family->model_class) : family->model_class};
  writer.json()["model_type"] = family->name;
  Architecture written = a;
  family->config(writer, written);
  CHECK_OK(writer.result());
  writer.json()["torch_dtype"] = extras.dtype;
  // Null says that there is none: an absent one is the family's own, which a smaller vocabulary may lack.
  const auto token = [](const std::optional<int64_t>& id) { return id ? nlohmann::ordered_json(*id) : nullptr; };
  writer.json()["bos_token_id"] = token(extras.ids.bos);
  const std::vector<int64_t>& ends = extras.ids.eos;
  writer.json()["eos_token_id"] =
      ends.size() > 1 ? nlohmann::ordered_json(ends) : token(ends.empty() ? std::nullopt : std::optional(ends.front()));
  writer.json()["pad_token_id"] = token(extras.ids.pad);
  if (!extras.quantization->is_null()) writer.json()["quantization_config"] = *extras.quantization;
  if (a.labels) labels_to_config(*a.labels, writer.json());
  std::string text = json_text(writer.json());

  // What the family cannot say (a bias that it does not have, say) must not get lost in writing.
  Architecture back = TRY(parse_config(text, "the new config.json"));
  for (size_t i = 0; i < back.ropes.size() && i < a.ropes.size(); ++i) back.ropes[i].layout = a.ropes[i].layout;
  if (!(back == a)) {
    return fail(ErrorCode::unsupported,
                "writing config.json: family '{}' cannot express this architecture (biases, norms, windows, positions, "
                "scales or kind of FFN)",
                a.family);
  }
  return text;
}

}  // namespace thimble
