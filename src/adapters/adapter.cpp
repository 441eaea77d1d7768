#include "adapters/adapter.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/gguf_adapter.h"
#include "adapters/modules.h"
#include "adapters/peft_config.h"
#include "adapters/trained_tokens.h"
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

// What bias "all" saves beside a module that is saved whole: the model's own, which it stands in for, and the same
// again.
bool is_beside_saved(std::string_view name, const SafetensorsFile& file) {
  constexpr std::string_view kOriginal = ".original_module.", kCopy = ".modules_to_save.";
  if (name.find(kOriginal) != std::string_view::npos) return true;
  std::string plain(name);
  const size_t copy = plain.find(kCopy);
  return copy != std::string::npos && file.find(plain.erase(copy, kCopy.size() - 1)) != nullptr;
}

Result<void> read_tensors(const SafetensorsFile& file, Adapter& adapter) {
  for (const SafetensorsEntry& entry : file.entries()) {
    if (is_beside_saved(entry.name, file)) continue;
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
  for (const PeftField& field : adapter.rewrite->form.fields) {
    const std::string end = fmt::format(".{}", field.extent);
    const auto says = [&](const auto& tensor) { return tensor.first.ends_with(end) && tensor.second.shape.rank() > 0; };
    const auto found = std::ranges::find_if(adapter.tensors, says);
    if (!field.extent.empty() && found != adapter.tensors.end())
      (*adapter.config)[std::string(field.field)] = found->second.shape[0];
  }
  return {};
}

// One technique, or two where rows of the embedding train beside it: these first, as LoRA may add to the head.
Result<std::vector<Adapter>> open_folder(const std::string& folder) {
  Adapter adapter;
  adapter.path = folder;
  const std::string config = folder + kAdapterConfig;
  adapter.config = TRY(read_ordered(config));
  Ordered tokens = TRY(take_token_indices(*adapter.config, config));
  adapter.rewrite = TRY(check_peft_config(*adapter.config, config));
  TRY(peft_options(*adapter.rewrite, *adapter.config, config));
  TRY(Selection::read(*adapter.config, config));
  if (is_file(folder + kSystemPrompt)) adapter.system_prompt = TRY(read_text_file(folder + kSystemPrompt, 1 << 20));
  if (is_file(folder + kAdapterTemplate))
    adapter.chat_template = TRY(read_text_file(folder + kAdapterTemplate, 4u << 20));
  SafetensorsFile file = TRY(SafetensorsFile::open(folder + kAdapterWeights));
  CHECK_OK(read_tensors(file, adapter));
  adapter.weights = std::move(file).take_file();
  if (says_labels(*adapter.config)) adapter.labels = TRY(labels_of(adapter));
  std::vector<Adapter> adapters;
  if (!tokens.is_null()) adapters.push_back(TRY(take_tokens(adapter, std::move(tokens))));
  adapters.push_back(std::move(adapter));
  return adapters;
}

// Of several techniques one has the head.
Result<void> check_head(const std::string& path, std::span<const Adapter> adapters) {
  const bool wanted = std::ranges::any_of(adapters, [](const Adapter& a) { return says_labels(*a.config); });
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
  std::vector<std::string> folders = {path};
  if (is_file(path + kAdapterStack)) {
    folders.clear();
    for (const std::string& name : TRY(read_stack(path))) folders.push_back(fmt::format("{}/{}", path, name));
  }
  for (const std::string& folder : folders)
    for (Adapter& adapter : TRY(open_folder(folder))) adapters.push_back(std::move(adapter));
  CHECK_OK(check_head(path, adapters));
  return adapters;
}

namespace {

// What the configuration turns on, as it may ask for more than the file has.
std::string flags_on(const Adapter& adapter) {
  std::string on;
  for (const PeftField& field : adapter.rewrite->form.fields) {
    const auto found = adapter.config->find(std::string(field.field));
    if (field.kind == PeftField::Kind::flag && found != adapter.config->end() && *found == true)
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

Result<void> check_files(std::span<const Adapter> adapters, std::span<const AdapterTensor> tensors) {
  std::set<std::string> read;
  for (const AdapterTensor& tensor : tensors) {
    TRY(find_entry(adapter_of(adapters, tensor), tensor));
    read.insert(tensor_key(tensor.file_name()));
  }
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
