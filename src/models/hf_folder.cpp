// Models in folders of Hugging Face: config.json beside model.safetensors, or shards and their index.
//
//   Names   by the family's table (families.h); the prefix of all but the head may be missing (bare base models)
#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/warnings.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "models/families.h"
#include "models/hf_config.h"
#include "models/quantised.h"
#include "models/stored_model.h"

namespace thimble {
namespace {

constexpr uint64_t kLargestIndex = 32u << 20;

bool recognises(const std::string& path) { return is_directory(path) && is_file(path + "/config.json"); }

// The shards that the index names; an index whose shards are not all there is left over from something else.
Result<std::set<std::string>> indexed_names(const std::string& index) {
  const Json json = TRY(read_json_file(index, kLargestIndex));
  const JsonFields fields = TRY(JsonFields::of(json, index));
  const JsonFields map = TRY(fields.object("weight_map"));
  std::set<std::string> names;
  for (const auto& [tensor, file] : map.json().items()) {
    const std::string name = TRY(map.get<std::string>(tensor));
    // An index must not lead out of its folder.
    if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos || name[0] == '.') {
      return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is in '{}', which is not the name of a file", index,
                  tensor, name);
    }
    names.insert(name);
  }
  return names;
}

// The names of the files that hold weights. Where both one file and shards are there, the shards are taken when they
// are whole: whoever wrote the index meant them.
Result<std::set<std::string>> shard_names(const std::string& folder) {
  const std::string index = folder + "/model.safetensors.index.json";
  const std::set<std::string> single = {"model.safetensors"};
  const bool has_single = is_file(folder + "/model.safetensors");
  if (!is_file(index) && !has_single) {
    return fail(ErrorCode::invalid_argument,
                "opening {}: there is neither model.safetensors nor "
                "model.safetensors.index.json; convert the weights to safetensors first",
                folder);
  }
  if (!is_file(index)) return single;
  const std::set<std::string> names = TRY(indexed_names(index));
  if (!has_single || names.contains("model.safetensors")) return names;
  const bool whole =
      !names.empty() && std::ranges::all_of(names, [&](const auto& name) { return is_file(folder + "/" + name); });
  warn(fmt::format("{} holds model.safetensors and shards with their index: {} taken; remove the others", folder,
                   whole ? "the shards are" : "model.safetensors, as not all shards are there, is"));
  return whole ? names : single;
}

struct Found : PackedPart {
  bool used = false;
};

struct Weights {
  std::string folder;
  std::vector<InputFile> files;
  std::map<std::string, Found, std::less<>> entries;

  // By the full name, or without the prefix that bare base models lack.
  Found* find(const std::string& name, std::string_view prefix) {
    auto found = entries.find(name);
    if (found == entries.end() && name.starts_with(prefix)) {
      found = entries.find(std::string_view(name).substr(prefix.size()));
    }
    return found == entries.end() ? nullptr : &found->second;
  }
};

Result<Weights> open_weights(const std::string& folder) {
  Weights weights{.folder = folder};
  for (const std::string& name : TRY(shard_names(folder))) {
    SafetensorsFile file = TRY(SafetensorsFile::open(folder + "/" + name));
    for (const SafetensorsEntry& entry : file.entries()) {
      if (!weights.entries.emplace(entry.name, Found{{weights.files.size(), entry}}).second) {
        return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is in another shard too", file.path(), entry.name);
      }
    }
    weights.files.push_back(std::move(file).take_file());
  }
  return weights;
}

Shape shape_in_file(const TensorSpec& spec, const FilePlace& place) {
  if (spec.shape.rank() == 1) return {place.rows};
  return place.transposed ? Shape{spec.shape[1], place.rows} : Shape{place.rows, spec.shape[1]};
}

// The matrix as another tool has quantised it; nullptr where it is stored plainly.
Result<std::shared_ptr<const PackedRows>> open_packed(const TensorSpec& spec, const FilePlace& place,
                                                      const Family& family, const Quantisation& quantisation,
                                                      Weights& weights) {
  constexpr std::string_view kWeight = ".weight";
  if (spec.shape.rank() != 2 || !place.name.ends_with(kWeight)) return nullptr;
  const std::string module = place.name.substr(0, place.name.size() - kWeight.size());
  PackedSource source{.name = fmt::format("{}: {}", weights.folder, module),
                      .rows = place.rows,
                      .columns = spec.shape[1],
                      .files = weights.files};
  source.find = [&](std::string_view suffix) -> const PackedPart* {
    Found* const found = weights.find(module + std::string(suffix), family.base);
    if (found) found->used = true;
    return found;
  };
  return quantisation.method->open(quantisation, source);
}

Result<void> add_tensor(const TensorSpec& spec, const Family& family, const std::optional<Quantisation>& quantisation,
                        Weights& weights, StoredModel& model) {
  const FilePlace place = place_in_file(family, model.architecture, spec);
  if (quantisation) {
    auto packed = TRY(open_packed(spec, place, family, *quantisation, weights));
    if (packed) {
      model.tensors.push_back({spec.name, packed->codec(), spec.shape});
      model.stored.push_back(
          {.first = place.first, .run = place.run, .period = place.period, .packed = std::move(packed)});
      return {};
    }
  }
  Found* found = weights.find(place.name, family.base);
  if (!found) {
    const bool head = spec.name == "lm_head.weight";
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is missing{}", weights.folder, place.name,
                head ? "; is 'tie_word_embeddings' in config.json right?" : "");
  }
  const SafetensorsEntry& entry = found->entry;
  const Shape expected = shape_in_file(spec, place);
  if (entry.shape != expected) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' should have shape {} by config.json, found {}",
                weights.folder, entry.name, expected.text(), entry.shape.text());
  }
  if (!entry.codec) {
    return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is of dtype {}, which thimble has no codec for",
                weights.folder, entry.name, entry.dtype);
  }
  found->used = true;
  StoredTensor stored{
      .file = found->file, .offset = entry.offset, .first = place.first, .run = place.run, .period = place.period};
  if (place.transposed) stored.transposed_stride = entry.shape[1] * entry.codec->block_bytes;
  model.tensors.push_back({spec.name, entry.codec, spec.shape});
  model.stored.push_back(stored);
  return {};
}

// Whether two tensors hold the same numbers; read in pieces.
Result<bool> same_numbers(const Weights& weights, const Found& a, const Found& b) {
  if (a.entry.dtype != b.entry.dtype || a.entry.bytes != b.entry.bytes) return false;
  constexpr uint64_t kPiece = 256 << 10;
  std::vector<std::byte> one(kPiece), other(kPiece);
  for (uint64_t at = 0; at < a.entry.bytes; at += kPiece) {
    const auto length = static_cast<size_t>(std::min(kPiece, a.entry.bytes - at));
    CHECK_OK(weights.files[a.file].read(a.entry.offset + at, std::span(one).first(length)));
    CHECK_OK(weights.files[b.file].read(b.entry.offset + at, std::span(other).first(length)));
    if (std::memcmp(one.data(), other.data(), length) != 0) return false;
  }
  return true;
}

// A head that is in the file and is not the embedding is the model's own, whatever config.json says of it.
Result<void> settle_tied(Weights& weights, const Family& family, Architecture& a) {
  const auto find = [&](const char* name) {
    const TensorSpec spec{name, {a.vocab, a.width}, {}};
    return weights.find(place_in_file(family, a, spec).name, family.base);
  };
  Found* const head = find("lm_head.weight");
  if (!a.tied || !head) return {};
  Found* const embedding = find("model.embed_tokens.weight");
  if (!embedding) return {};
  if (TRY(same_numbers(weights, *head, *embedding))) return head->used = true, Result<void>();
  warn(
      fmt::format("{}: config.json says 'tie_word_embeddings', but lm_head.weight is there and differs from the "
                  "embedding; it is taken as the model's own head",
                  weights.folder));
  a.tied = false;
  return {};
}

// Buffers that old files carry and that are no weights.
bool ignorable(std::string_view name, const Family& family) {
  return std::ranges::any_of(family.buffers, [&](std::string_view end) { return !end.empty() && name.ends_with(end); });
}

Result<StoredModel> open_folder(const std::string& path) {
  StoredModel model;
  model.architecture = TRY(architecture_from_config(path + "/config.json"));
  const Family& family = *find_family(model.architecture.family);
  const std::optional<Quantisation> quantisation = TRY(quantisation_of(path));
  Weights weights = TRY(open_weights(path));
  CHECK_OK(settle_tied(weights, family, model.architecture));
  for (const TensorSpec& spec : tensor_specs(model.architecture))
    CHECK_OK(add_tensor(spec, family, quantisation, weights, model));
  // A tensor that nobody reads is a part of the model that would silently be left out.
  for (const auto& [name, found] : weights.entries) {
    if (!found.used && !ignorable(name, family)) {
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' has no place in a model of family {}", path, name,
                  model.architecture.family);
    }
  }
  model.files = std::move(weights.files);
  return model;
}

}  // namespace

const ModelFormat kHfFolder = {.name = "huggingface",
                               .description = "a Hugging Face folder with config.json and *.safetensors",
                               .recognises = recognises,
                               .open = open_folder};

}  // namespace thimble
