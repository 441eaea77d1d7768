#include "commands/describe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/adapter.h"
#include "files/gguf.h"
#include "files/imatrix.h"
#include "models/channel_mixer.h"
#include "models/mixer.h"
#include "models/model_source.h"
#include "models/presets.h"
#include "models/router.h"
#include "run/prompt_cache.h"
#include "run/resume.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

constexpr size_t kShownText = 200;  // bytes of a metadata value; the rest is counted

// One line, bounded, whatever a file holds.
std::string shown(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, kShownText)) out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
  if (text.size() > kShownText) out += fmt::format(" ... ({} bytes)", text.size());
  return out;
}

// Tensors and elements by codec.
class Tally {
 public:
  void add(std::string_view codec, int64_t elements, int64_t bytes) {
    Sum& sum = sums_[std::string(codec)];
    ++sum.tensors, sum.elements += elements, sum.bytes += bytes;
    ++all_.tensors, all_.elements += elements, all_.bytes += bytes;
  }
  void write(Ordered& to) const {
    to["tensors"] = all_.tensors;
    to["elements"] = all_.elements;
    to["tensor bytes"] = all_.bytes;
    for (const auto& [codec, sum] : sums_) {
      to["codecs"][codec] = {{"tensors", sum.tensors}, {"elements", sum.elements}, {"bytes", sum.bytes}};
    }
  }

 private:
  struct Sum {
    int64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums_;
  Sum all_;
};

Ordered row(std::string_view name, std::string_view codec, const Shape& shape, uint64_t bytes) {
  return {{"name", shown(name)}, {"codec", codec}, {"shape", shape.text()}, {"bytes", bytes}};
}

Ordered architecture_json(const Architecture& a) {
  const Attention& attention = a.blocks.front().attention;
  Ordered json = {{"family", a.family},
                  {"parameters", parameter_count(a)},
                  {"vocabulary", a.vocab},
                  {"width", a.width},
                  {"layers", a.layers()},
                  {"heads", attention.heads},
                  {"key-value heads", attention.kv_heads},
                  {"head width", attention.head_dim},
                  {"FFN width", a.blocks.front().ffn.width},
                  {"context", a.context},
                  {"tied head", a.tied}};
  if (a.labels) json["labels"] = a.labels->names;
  constexpr std::array kScalings = {"none", "linear", "dynamic", "llama3", "yarn", "longrope"};
  for (size_t i = 0; i < a.ropes.size(); ++i) {
    const Rope& rope = a.ropes[i];
    const std::string which = i == 0 ? "rope" : fmt::format("rope {}", i + 1);
    json[which + " base"] = rope.base;
    if (rope.scaling.kind != RopeScaling::Kind::none)
      json[which + " scaling"] =
          fmt::format("{}, factor {}", kScalings[static_cast<size_t>(rope.scaling.kind)], rope.scaling.factor);
  }
  int64_t windows = 0, window = 0;
  for (const Block& block : a.blocks)
    if (block.attention.window > 0) ++windows, window = block.attention.window;
  if (windows > 0) json["sliding window"] = window;
  if (windows > 0 && windows < a.layers()) json["layers with a window"] = windows;
  std::set<std::string_view> mixers, ffns, routers;
  int64_t rank = 0, experts = 0;
  for (const Block& block : a.blocks) {
    if (block.mixer) mixers.insert(block.mixer->name);
    if (block.ffn.mixer != &kGatedFfn) ffns.insert(block.ffn.mixer->name);
    if (block.ffn.routing) routers.insert(block.ffn.routing.router->name);
    rank = std::max(rank, block.ffn.rank), experts = std::max(experts, block.ffn.routing.experts);
  }
  if (!mixers.empty()) json["mixers"] = fmt::format("{}", fmt::join(mixers, ", "));
  if (!ffns.empty()) json["FFNs"] = fmt::format("{}", fmt::join(ffns, ", "));
  if (rank > 0) json["FFN rank"] = rank;
  if (!routers.empty()) json["routers"] = fmt::format("{}", fmt::join(routers, ", "));
  if (experts > 0) json["experts"] = experts;
  return json;
}

// Of a path that a tokenizer may be in; says so when it has none that can be read.
Ordered tokenizer_json(const std::string& path) {
  const auto tokenizer = Tokenizer::open(path);
  if (!tokenizer) return {{"not supported", tokenizer.error().message}};
  const Tokenizer& t = **tokenizer;
  Ordered json;
  if (const auto tables = t.tables()) {
    const std::string_view model = tables->model;
    json["kind"] = model == "gpt2" ? "byte-level BPE" : model == "t5" ? "SentencePiece unigram" : "SentencePiece BPE";
    if (!tables->pre.empty()) json["pre-tokenizer"] = tables->pre;
  } else {
    json["kind"] = "byte-level BPE with a pre-tokenizer of its own";
  }
  json["tokens"] = t.vocab_size();
  if (t.bos()) json["bos"] = fmt::format("{} {}", *t.bos(), shown(t.bytes(*t.bos())));
  if (t.eos()) json["eos"] = fmt::format("{} {}", *t.eos(), shown(t.bytes(*t.eos())));
  json["adds bos"] = t.adds_bos();
  const auto format = chat_format(t);
  json["chat template"] = t.chat_template().empty() ? "none"
                          : format                  ? fmt::format("{} bytes", t.chat_template().size())
                                                    : "cannot be used: " + format.error().message;
  Ordered ends = Ordered::array();
  for (const int32_t id : format ? (*format)->ends() : t.ends())
    ends.push_back(fmt::format("{} {}", id, shown(t.bytes(id))));
  json["ends"] = ends;
  return json;
}

Ordered value_json(const GgufValue& value) {
  return std::visit(
      [](const auto& held) -> Ordered {
        using T = std::decay_t<decltype(held)>;
        if constexpr (std::is_same_v<T, GgufArray>)
          return fmt::format("[{} x {}]", held.count, name(held.element));
        else if constexpr (std::is_same_v<T, std::string>)
          return shown(held);
        else
          return held;
      },
      value.value);
}

void add_model(const std::string& path, Ordered& json) {
  const auto source = ModelSource::open(path);
  if (source)
    json["architecture"] = architecture_json((*source)->architecture());
  else
    json["not supported"] = source.error().message;
}

// Of a file that may have a million: an ordered object would look for each among all before it.
void add_metadata(Ordered& json, const std::string& key, Ordered value) {
  Ordered& metadata = json["metadata"];
  if (metadata.is_null()) metadata = Ordered::object();
  metadata.get_ref<Ordered::object_t&>().emplace_back(shown(key), std::move(value));
}

Result<Ordered> describe_gguf(const std::string& path, bool tensors) {
  const GgufFile file = TRY(GgufFile::open(path));
  Ordered json = {
      {"path", path}, {"format", fmt::format("GGUF version {}", file.version())}, {"bytes", file.file().size()}};
  add_model(path, json);
  Tally tally;
  Ordered list = Ordered::array();
  for (const GgufTensor& t : file.tensors()) {
    const std::string codec = gguf_tensor_type_name(t.type);
    tally.add(codec, t.shape.count(), static_cast<int64_t>(t.bytes));
    if (tensors) list.push_back(row(t.name, codec, t.shape, t.bytes));
  }
  tally.write(json);
  if (file.find_value("tokenizer.ggml.tokens")) json["tokenizer"] = tokenizer_json(path);
  for (const GgufValue& value : file.values()) add_metadata(json, value.key, value_json(value));
  if (tensors) json["tensor list"] = list;
  return json;
}

// Of every matrix the columns and how large their inputs were.
Result<Ordered> describe_imatrix(const std::string& path, bool tensors) {
  const Imatrix imatrix = TRY(Imatrix::open(path));
  Ordered json = {{"path", path},
                  {"format", fmt::format("importance matrix of llama.cpp ({})", imatrix.legacy() ? "legacy" : "GGUF")},
                  {"matrices", imatrix.entries().size()}};
  if (imatrix.chunks() > 0) json["chunks of text"] = imatrix.chunks();
  for (const std::string& set : imatrix.datasets()) json["data"].push_back(shown(set));
  Ordered list = Ordered::array();
  std::vector<float> numbers;
  for (const auto& [name, entry] : imatrix.entries()) {
    double sum = 0, most = 0;
    numbers.resize(static_cast<size_t>(entry.columns));
    for (int64_t i = 0; i < entry.matrices; ++i) {
      CHECK_OK(imatrix.read(name, i, entry.matrices, numbers));
      for (const float number : numbers) sum += double{number}, most = std::max(most, double{number});
    }
    const auto count = static_cast<double>(entry.columns * entry.matrices);
    list.push_back({{"name", shown(name)},
                    {"matrices", entry.matrices},
                    {"columns", entry.columns},
                    {"mean square", sum / count},
                    {"largest", most}});
  }
  if (tensors) json["tensor list"] = list;
  return json;
}

Result<Ordered> describe_safetensors(const std::string& path, bool tensors) {
  const SafetensorsFile file = TRY(SafetensorsFile::open(path));
  const bool checkpoint = file.metadata().contains("numerics") && file.metadata().contains("step");
  Ordered json = {{"path", path},
                  {"format", checkpoint                                        ? "thimble checkpoint (safetensors)"
                             : metadata_text(file, "kind") == kPromptCacheKind ? "thimble prompt cache (safetensors)"
                                                                               : "safetensors"},
                  {"bytes", file.file().size()}};
  Tally tally;
  Ordered list = Ordered::array();
  for (const SafetensorsEntry& e : file.entries()) {
    tally.add(e.dtype, e.shape.count(), static_cast<int64_t>(e.bytes));
    if (tensors) list.push_back(row(e.name, e.dtype, e.shape, e.bytes));
  }
  tally.write(json);
  for (const auto& [key, value] : file.metadata()) add_metadata(json, key, shown(value));
  if (tensors) json["tensor list"] = list;
  return json;
}

Ordered describe_one(const Adapter& adapter, bool tensors) {
  Ordered json = {{"path", adapter.path},
                  {"format", fmt::format("{} adapter ({})", adapter.rewrite->name, adapter.gguf ? "GGUF" : "PEFT")},
                  {"bytes", adapter.weights->size()}};
  for (const auto& [field, value] : adapter.config->items())
    if (!value.is_null() && !(value.is_structured() && value.empty())) json[field] = value;
  std::set<std::string> modules;
  Tally tally;
  Ordered list = Ordered::array();
  for (const auto& [key, e] : adapter.tensors) {
    std::string module = key;
    for (const std::string_view end : {".weight", ".bias"})
      if (module.ends_with(end)) module.resize(module.size() - end.size());
    modules.insert(module.substr(0, module.rfind('.')));
    tally.add(e.dtype, e.shape.count(), static_cast<int64_t>(e.bytes));
    if (tensors) list.push_back(row(e.name, e.dtype, e.shape, e.bytes));
  }
  json["modules"] = modules.size();
  tally.write(json);
  if (tensors) json["tensor list"] = list;
  return json;
}

Result<Ordered> describe_adapter(const std::string& path, bool tensors) {
  const std::vector<Adapter> adapters = TRY(open_adapters(path));
  if (adapters.size() == 1) return describe_one(adapters.front(), tensors);
  Ordered json = {{"path", path}, {"format", "adapters of several techniques"}};
  for (const Adapter& adapter : adapters) json[std::string(adapter.rewrite->name)] = describe_one(adapter, tensors);
  return json;
}

// A Hugging Face folder or a llama2.c file.
Result<Ordered> describe_model(const std::string& path, bool tensors) {
  const auto source = TRY(ModelSource::open(path));
  const bool folder = is_directory(path);
  Ordered json = {{"path", path},
                  {"format", folder ? "Hugging Face folder" : "llama2.c .bin"},
                  {"architecture", architecture_json(source->architecture())}};
  Tally tally;
  Ordered list = Ordered::array();
  for (const ModelTensor& t : source->tensors()) {
    tally.add(t.codec->name, t.shape.count(), t.bytes());
    if (tensors) list.push_back(row(t.name, t.codec->name, t.shape, static_cast<uint64_t>(t.bytes())));
  }
  tally.write(json);
  if (folder) json["tokenizer"] = tokenizer_json(path);
  if (tensors) json["tensor list"] = list;
  return json;
}

// A folder of `finetune --out`: its parts.
Result<Ordered> describe_run(const std::string& path, bool tensors) {
  Ordered json = {{"path", path}, {"format", "folder of a training run"}};
  if (is_file(path + "/checkpoint.safetensors"))
    json["checkpoint"] = TRY(describe_safetensors(path + "/checkpoint.safetensors", tensors));
  if (is_file(path + "/adapter/adapter_config.json") || is_file(path + "/adapter" + kAdapterStack))
    json["adapter"] = TRY(describe_adapter(path + "/adapter", tensors));
  if (is_file(path + "/model/config.json")) json["model"] = TRY(describe_model(path + "/model", tensors));
  return json;
}

// The first eight bytes of a safetensors file are the length of a header that starts with '{'.
bool is_safetensors(const std::string& path) {
  if (path.ends_with(".safetensors")) return true;
  const auto file = InputFile::open(path);
  std::byte head[9];
  return file && file->size() > 9 && file->read(0, head) && head[8] == std::byte{'{'};
}

Result<Ordered> describe_tokenizer(const std::string& path) {
  CHECK_OK(Tokenizer::open(path));
  return Ordered{{"path", path}, {"format", "tokenizer"}, {"tokenizer", tokenizer_json(path)}};
}

}  // namespace

Result<nlohmann::ordered_json> describe(const std::string& path, bool tensors) {
  if (is_directory(path)) {
    if (is_file(path + kAdapterConfig) || is_file(path + kAdapterStack)) return describe_adapter(path, tensors);
    if (is_file(path + "/config.json")) return describe_model(path, tensors);
    if (is_file(path + "/checkpoint.safetensors") || is_file(path + "/adapter/adapter_config.json"))
      return describe_run(path, tensors);
    if (Tokenizer::open(path)) return describe_tokenizer(path);
    return fail(
        ErrorCode::unsupported,
        "inspecting {}: expected config.json, adapter_config.json, checkpoint.safetensors or a tokenizer in the "
        "folder, found none",
        path);
  }
  CHECK_OK(InputFile::open(path));
  if (Imatrix::recognises(path)) return describe_imatrix(path, tensors);
  if (GgufFile::recognises(path)) return describe_gguf(path, tensors);
  if (is_safetensors(path)) return describe_safetensors(path, tensors);
  if (path.ends_with(".json") || path.ends_with(".model")) return describe_tokenizer(path);
  return describe_model(path, tensors);
}

}  // namespace thimble
