// Adapters in the files of the field: PEFT's folders (adapter_config.json with adapter_model.safetensors), and
// llama.cpp's GGUF adapters. Nothing is kept of the numbers; they are read where they are wanted.
//
// A folder may hold several techniques in an order (adapter_stack.json): each has a folder of its own in it.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "files/json.h"
#include "files/safetensors.h"
#include "methods/rewrite.h"
#include "models/model_source.h"

namespace thimble {

// An adapter's file, opened and checked for itself; whether it fits a model is checked by rewrite_of.
struct Adapter {
  std::string path;
  const Rewrite* rewrite = nullptr;
  JsonBox<nlohmann::ordered_json> config;  // PEFT's, with all its fields in their order
  std::string system_prompt;       // what all chats that it was trained on were opened with; in system_prompt.txt
  std::string chat_template = {};  // that it was trained with, where its folder has one; in chat_template.jinja
  bool interleaved = false;        // rows of heads as GGUF has them, and not as Hugging Face's files do
  bool gguf = false;
  double scale = 1;                   // of what it adds
  std::optional<Labels> labels = {};  // of one for texts with labels (SEQ_CLS): what its head says; in labels.json
  std::string scope = {};             // before names of its values in a graph (AdaptedModule)
  std::optional<InputFile> weights;
  // By what is the same however a tool prefixes them: "layers.0.self_attn.q_proj.lora_A.weight".
  std::map<std::string, SafetensorsEntry> tensors;
};

// One technique, or several. Every field of the configuration is honoured, harmless or refused by name.
Result<std::vector<Adapter>> open_adapters(const std::string& path);

// Several at once, "a,b", applied in that order, and what each is multiplied with, "0.5,2" (empty: 1). Refuses a scale
// where what the technique does is no sum.
Result<std::vector<Adapter>> open_adapter_list(const std::string& paths, const std::string& scales);
// The paths of such a list: one where there is something of that whole name.
std::vector<std::string> adapter_paths(const std::string& paths);

// The technique as it is applied to this model: the modules that the file has tensors of, with their options. Refuses
// an adapter of another model, and tensors that have no place in this one.
Result<RewriteSpec> rewrite_of(Adapter& adapter, const Architecture& architecture);

// Refuses, where an adapter trains on, one that lacks the tensors of layers that its configuration names: a tool that
// goes by that would train them too.
Result<void> check_complete(const Adapter& adapter, const RewriteSpec& spec, const Architecture& architecture);

// Whether an adapter has copies of its own of the embedding or the head: where these are one matrix, they are two then.
bool has_own_ends(const nlohmann::ordered_json& config, const Architecture& architecture);

// The model that adapters are for: where they say labels of texts and it does not, with a head for these labels; where
// one of them has copies of its own of what is the embedding and the head, with a head of its own.
Result<std::unique_ptr<ModelSource>> model_for(std::unique_ptr<ModelSource> source, std::span<const Adapter> adapters);

// The adapter that a value of a stack is of: that of its technique's place.
inline const Adapter& adapter_of(std::span<const Adapter> adapters, const AdapterTensor& tensor) {
  return adapters[std::min(tensor.place, adapters.size() - 1)];
}

// The entry that holds a value; nullptr where it is optional and there is none. Refuses another shape.
Result<const SafetensorsEntry*> find_entry(const Adapter& adapter, const AdapterTensor& tensor);

// Elements [first, first + to.size()) of a value [rows, columns] in its order, in f32.
Result<void> read_elements(const Adapter& adapter, const SafetensorsEntry& entry, const AdapterTensor& tensor,
                           const Shape& shape, int64_t first, std::span<float> to);

// Every tensor of the files must be one of `tensors`, which are those of all techniques, and each of these must be
// there in its shape, unless it is optional.
Result<void> check_files(std::span<const Adapter> adapters, std::span<const AdapterTensor> tensors);

// What a technique is asked for where there is no adapter yet.
struct FreshAdapter {
  OptionValues options;
  std::vector<std::string> targets;  // names or ends of names; empty: as the technique says
  std::string base_model;
  bool head = false;  // the head for labels is saved with it
};
// The same with a configuration to be saved, in `config`.
Result<RewriteSpec> fresh_rewrite(const Rewrite& rewrite, const FreshAdapter& asked, const Architecture& architecture,
                                  nlohmann::ordered_json& config);

// The technique that a configuration describes, on all modules that it names. `overwrites` says of a value of the model
// whether the adapter brings it though it does not train it; nullptr: none.
Result<RewriteSpec> configured_rewrite(const Rewrite& rewrite, const nlohmann::ordered_json& config,
                                       const Architecture& architecture, const std::string& source,
                                       const std::function<bool(const std::string& value)>& overwrites = nullptr);

// What is written: the configuration, and values of the graph.
struct AdapterToWrite {
  JsonBox<nlohmann::ordered_json> config;
  std::string system_prompt;
  std::string chat_template = {};  // that it was trained with, where it is not the model's own; or empty
  std::vector<std::pair<AdapterTensor, Shape>> tensors;  // with the shapes of the values
  const Adapter* names = nullptr;                        // whose names of tensors are kept
  std::optional<Labels> labels = {};
};
// Gives elements [first, first + to.size()) of a value.
using ReadValue = std::function<Result<void>(const AdapterTensor& tensor, int64_t first, std::span<float> to)>;

// Makes the folder when it is missing. The configuration is written last, so that a broken save is no adapter.
Result<void> write_adapter(const std::string& folder, const AdapterToWrite& adapter, const ReadValue& read);
// Says which of its folders are applied, in their order.
Result<void> write_stack(const std::string& folder, std::span<const std::string> names);

inline constexpr const char* kAdapterConfig = "/adapter_config.json";
inline constexpr const char* kAdapterWeights = "/adapter_model.safetensors";
inline constexpr const char* kAdapterStack = "/adapter_stack.json";
inline constexpr const char* kAdapterTemplate =
    "/chat_template.jinja";                                    // as transformers keeps a tokenizer's beside it
inline constexpr const char* kAdapterLabels = "/labels.json";  // id2label and problem_type, as config.json has them
inline constexpr const char* kSystemPrompt = "/system_prompt.txt";

// What is the same of a tensor's name however a tool prefixes it.
std::string tensor_key(std::string_view name);

}  // namespace thimble
