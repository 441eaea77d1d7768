#include "adapters/gguf_adapter.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/modules.h"
#include "files/gguf.h"
#include "files/gguf_writer.h"
#include "models/gguf_config.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

constexpr std::string_view kEndA = ".lora_a", kEndB = ".lora_b";

const Family& family_of(const Architecture& architecture) {
  static const Family none{};
  const Family* const family = find_family(architecture.family);
  return family ? *family : none;
}

// Whether llama.cpp keeps the family's rows of q and k interleaved where Hugging Face's files do not.
bool interleaves(const Architecture& architecture) { return family_of(architecture).gguf.pairs; }

struct Place {
  std::string gguf;  // the tensor's name there, "blk.0.attn_q.weight"
  std::string owner;
  bool embedding = false;
  bool by_head = false;  // Hugging Face's rows are those of each head's query, key and value, GGUF's all queries first
};

// Every module once.
std::vector<Place> places(const Architecture& architecture) {
  std::vector<Place> out;
  std::set<std::string> owners;
  for (const ModelModule& m : model_modules(architecture)) {
    if (m.suffix != "weight" || m.shape.rank() != 2 || !owners.insert(m.owner).second) continue;
    const std::string name = m.owner == "lm_head" ? "lm_head.weight" : m.tensor;
    out.push_back({place_in_gguf(family_of(architecture), architecture, {name, m.shape, {}}).name, m.owner, !m.linear,
                   m.rows.run != 0});
  }
  return out;
}

Result<void> check_rows(const Place& place, const std::string& path) {
  if (!place.by_head) return {};
  return fail(
      ErrorCode::unsupported,
      "{}: the rows of '{}' lie by head in Hugging Face's files and otherwise in GGUF's, which is not supported "
      "for adapters; use a PEFT folder",
      path, place.owner);
}

Result<void> check_kind(const GgufFile& file) {
  const std::string kind = TRY(file.get<std::string>("adapter.type"));
  if (kind != "lora")
    return fail(ErrorCode::unsupported, "reading {}: adapter.type is '{}'; expected lora", file.path(), kind);
  if (file.find_value("adapter.alora.invocation_tokens"))
    return fail(ErrorCode::unsupported,
                "reading {}: 'adapter.alora.invocation_tokens' is set: the adapter is active after some tokens only",
                file.path());
  return {};
}

// The end of a name in PEFT.
std::string peft_end(const Place& place, bool a) {
  if (place.embedding) return a ? ".lora_embedding_A" : ".lora_embedding_B";
  return a ? ".lora_A.weight" : ".lora_B.weight";
}

}  // namespace

bool is_gguf_adapter(const std::string& path) { return is_file(path) && GgufFile::recognises(path); }

Result<Adapter> open_gguf_adapter(const std::string& path) {
  const GgufFile file = TRY(GgufFile::open(path));
  if (TRY(file.get_or<std::string>("general.type", "model")) != "adapter")
    return fail(ErrorCode::invalid_argument, "reading {}: it is a model and no adapter (general.type)", path);
  CHECK_OK(check_kind(file));
  Adapter adapter;
  adapter.path = path, adapter.gguf = true;
  adapter.rewrite = rewrite_of_peft("LORA");
  Ordered& config = *adapter.config;
  config["peft_type"] = "LORA";
  config["task_type"] = "CAUSAL_LM";
  config["base_model_name_or_path"] = TRY(file.get_or<std::string>("general.base_model.0.name", ""));
  config["lora_alpha"] = TRY(file.get_or<double>("adapter.lora.alpha", 0));
  for (const GgufTensor& tensor : file.tensors()) {
    const Codec* const codec = find_codec_gguf(static_cast<int>(tensor.type));
    const bool known = tensor.name.ends_with(kEndA) || tensor.name.ends_with(kEndB);
    if (!known || !codec || codec->block != 1)
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' {}", path, tensor.name,
                  known ? "is quantised; thimble reads f32, bf16 and f16 here" : "is neither a lora_a nor a lora_b");
    adapter.tensors[tensor.name] = {tensor.name, std::string(codec->name), tensor.shape, codec, tensor.offset,
                                    tensor.bytes};
  }
  if (adapter.tensors.empty()) return fail(ErrorCode::corrupt, "reading {}: it holds no tensors of an adapter", path);
  adapter.weights = TRY(InputFile::open(path));
  return adapter;
}

namespace {

Result<void> check_architecture(const Adapter& adapter, const Architecture& architecture) {
  const std::string of = TRY(TRY(GgufFile::open(adapter.path)).get_or<std::string>("general.architecture", ""));
  const std::string_view own = family_of(architecture).gguf.architecture;
  if (of.empty() || of == own) return {};
  return fail(ErrorCode::invalid_argument,
              "reading {}: it is for models of '{}' (general.architecture), the model is of '{}'", adapter.path, of,
              own.empty() ? std::string_view(architecture.family) : own);
}

}  // namespace

Result<void> name_as_peft(Adapter& adapter, const Architecture& architecture) {
  CHECK_OK(check_architecture(adapter, architecture));
  adapter.interleaved = interleaves(architecture);
  std::map<std::string, SafetensorsEntry> named;
  Ordered targets = Ordered::array(), ranks = Ordered::object(), alphas = Ordered::object();
  Ordered& config = *adapter.config;
  const double alpha = config["lora_alpha"].get<double>();
  for (const Place& place : places(architecture)) {
    const auto a = adapter.tensors.find(place.gguf + std::string(kEndA)),
               b = adapter.tensors.find(place.gguf + std::string(kEndB));
    if (a == adapter.tensors.end() && b == adapter.tensors.end()) continue;
    if (a == adapter.tensors.end() || b == adapter.tensors.end() || b->second.shape.rank() != 2)
      return fail(ErrorCode::corrupt, "reading {}: '{}' has only one of lora_a and lora_b", adapter.path, place.gguf);
    CHECK_OK(check_rows(place, adapter.path));
    targets.push_back(place.owner);
    ranks[place.owner] = b->second.shape[1];
    if (alpha == 0) alphas[place.owner] = b->second.shape[1];  // a scale of 1
    named[tensor_key(place.owner + peft_end(place, true))] = a->second;
    named[tensor_key(place.owner + peft_end(place, false))] = b->second;
  }
  for (const auto& [name, entry] : adapter.tensors) {
    const bool placed =
        std::any_of(named.begin(), named.end(), [&name = name](const auto& n) { return n.second.name == name; });
    if (!placed)
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' has no place in a model of family {}", adapter.path,
                  name, architecture.family);
  }
  adapter.tensors = std::move(named);
  if (alpha == 0) config["lora_alpha"] = 1;
  config["r"] = ranks.empty() ? Ordered(8) : ranks.begin().value();
  config["target_modules"] = std::move(targets);
  config["rank_pattern"] = std::move(ranks);
  config["alpha_pattern"] = std::move(alphas);
  return {};
}

namespace {

// A tensor of the new file, with where its rows are in the adapter.
struct Part {
  std::string name;
  const SafetensorsEntry* entry;
  AdapterTensor tensor;
  Shape shape;
  double factor = 1;
};

class GgufAdapterWriter {
 public:
  GgufAdapterWriter(Adapter& adapter, const Architecture& architecture) : adapter_(adapter), a_(architecture) {}

  Result<void> write(const std::string& path) {
    if (family_of(a_).gguf.architecture.empty())
      return fail(ErrorCode::unsupported, "writing {}: llama.cpp does not run models of family '{}'", path, a_.family);
    const RewriteSpec spec = TRY(rewrite_of(adapter_, a_));
    if (adapter_.rewrite->form.type != "LORA" || !adapter_.rewrite->form.marked.empty() || !spec.trained.empty() ||
        spec.options["bias"] != 0)
      return fail(ErrorCode::unsupported,
                  "writing {}: a GGUF adapter holds products of low rank only, and {} has more ({}){}", path,
                  adapter_.path, spec.trained.empty() ? adapter_.rewrite->name : spec.trained.front().value,
                  adapter_.rewrite->merges() ? "; merge it into the model instead" : "");
    const double alpha = spec.options["alpha"];
    for (const Place& place : places(a_)) CHECK_OK(add(place, spec, alpha));
    for (const auto& [key, entry] : adapter_.tensors)
      if (!used_.contains(key))
        return fail(ErrorCode::unsupported, "writing {}: a GGUF adapter has no place for '{}'", path, entry.name);
    GgufWriter writer;
    writer.add_string("general.architecture", std::string(family_of(a_).gguf.architecture));
    writer.add_string("general.type", "adapter");
    writer.add_string("adapter.type", "lora");
    writer.add_float("adapter.lora.alpha", static_cast<float>(alpha));
    for (const Part& part : parts_) CHECK_OK(writer.add_tensor(part.name, kF32.gguf_type, part.shape));
    CHECK_OK(writer.start(path));
    for (const Part& part : parts_) CHECK_OK(write_part(part, writer));
    return writer.finish();
  }

 private:
  Result<void> add(const Place& place, const RewriteSpec& spec, double alpha) {
    const AdaptedModule* module = nullptr;
    for (const auto& [name, m] : spec.modules)
      if (m.owner == place.owner) module = &m;
    if (!module) return {};
    CHECK_OK(check_rows(place, adapter_.path));
    if (place.embedding && a_.tied)
      return fail(
          ErrorCode::unsupported,
          "{}: it adapts '{}', which is the model's head too: llama.cpp would apply it there and stop; merge it "
          "into the model instead",
          adapter_.path, place.owner);
    const double rank = module->options["rank"];
    const double scale = module->options["alpha"] / (module->options["rslora"] > 0 ? std::sqrt(rank) : rank);
    for (const bool a : {true, false}) {
      const std::string key = tensor_key(place.owner + peft_end(place, a));
      const auto entry = adapter_.tensors.find(key);
      if (entry == adapter_.tensors.end())
        return fail(ErrorCode::corrupt, "reading {}: '{}' is missing", adapter_.weights->path(), key);
      used_.insert(key);
      Part part{place.gguf + std::string(a ? kEndA : kEndB), &entry->second, {}, entry->second.shape};
      part.tensor.whole = part.shape;
      if (place.embedding && a && !adapter_.gguf)
        part.shape = {part.shape[1], part.shape[0]}, part.tensor.transposed = true;
      if (!a) part.factor = scale / (alpha / rank), part.tensor.head_dim = module->head_dim;
      part.tensor.interleaved = interleaves(a_);
      parts_.push_back(std::move(part));
    }
    return {};
  }

  Result<void> write_part(const Part& part, GgufWriter& writer) const {
    const int64_t columns = part.shape.columns(), step = std::max<int64_t>(1, (1 << 16) / columns);
    std::vector<float> rows;
    for (int64_t row = 0; row < part.shape[0]; row += step) {
      const int64_t some = std::min(step, part.shape[0] - row);
      rows.resize(static_cast<size_t>(some * columns));
      CHECK_OK(read_elements(adapter_, *part.entry, part.tensor, part.shape, row * columns, rows));
      for (float& x : rows) x = static_cast<float>(x * part.factor);
      CHECK_OK(writer.write(std::as_bytes(std::span(rows))));
    }
    return {};
  }

  Adapter& adapter_;
  const Architecture& a_;
  std::vector<Part> parts_;
  std::set<std::string> used_;
};

}  // namespace

Result<void> write_gguf_adapter(const std::string& path, Adapter& adapter, const Architecture& architecture) {
  return GgufAdapterWriter(adapter, architecture).write(path);
}

}  // namespace thimble
