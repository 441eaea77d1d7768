#include "models/cut_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/draws.h"
#include "files/file.h"
#include "files/json.h"
#include "models/narrow_weights.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

using Places = std::vector<int64_t>;

constexpr int64_t kUnitsTogether = 32;
constexpr uint64_t kLargestFile = 64u << 20;

// Elements of groups that lie one after another.
Places elements(const Places& groups, int64_t size) {
  Places out;
  for (const int64_t group : groups)
    for (int64_t i = 0; i < size; ++i) out.push_back(group * size + i);
  return out;
}

std::vector<double> group_sums(const std::vector<double>& sums, int64_t size) {
  std::vector<double> out(sums.size() / static_cast<size_t>(size));
  for (size_t i = 0; i < sums.size(); ++i) out[i / static_cast<size_t>(size)] += sums[i];
  return out;
}

Places drawn(int64_t of, int64_t count, uint64_t key, const std::string& stream) {
  Places places = draw_places(Random(key, stream), of, count);
  std::ranges::sort(places);
  return places;
}

Result<KeptParts::Layer> largest_parts(const ModelSource& source, const KeptParts& whole, size_t layer,
                                       const KeptParts::Layer& counts) {
  const std::string name = fmt::format("model.layers.{}.", layer);
  const auto zeros = [](int64_t count) { return std::vector<double>(static_cast<size_t>(count)); };
  std::vector<double> none, queries = zeros(whole.heads * whole.head_dim),
                            keys = zeros(whole.kv_heads * whole.head_dim), units = zeros(whole.units);
  CHECK_OK(add_magnitudes(source, name + "self_attn.q_proj.weight", queries, none));
  CHECK_OK(add_magnitudes(source, name + "self_attn.o_proj.weight", none, queries));
  CHECK_OK(add_magnitudes(source, name + "self_attn.k_proj.weight", keys, none));
  CHECK_OK(add_magnitudes(source, name + "self_attn.v_proj.weight", keys, none));
  for (const char* matrix : {"gate_proj", "up_proj"})
    CHECK_OK(add_magnitudes(source, name + "mlp." + matrix + ".weight", units, none));
  CHECK_OK(add_magnitudes(source, name + "mlp.down_proj.weight", none, units));
  std::vector<double> heads = group_sums(keys, whole.head_dim);
  const std::vector<double> with = group_sums(queries, whole.heads / whole.kv_heads * whole.head_dim);
  for (size_t i = 0; i < heads.size(); ++i) heads[i] += with[i];
  return KeptParts::Layer{places_of_largest(heads, std::ssize(counts.kv_heads)),
                          places_of_largest(units, std::ssize(counts.units))};
}

// Of the whole model: what all blocks have.
Result<KeptParts> extents(const ModelSource& source) {
  const Architecture& a = source.architecture();
  const Block& first = a.blocks.front();
  for (const Block& block : a.blocks) {
    if (block.mixer || block.ffn.routing || block.ffn.rank > 0)
      return fail(ErrorCode::unsupported,
                  "cutting {}: it has blocks of {}; heads of attentions and units of single "
                  "FFNs can be cut",
                  source.path(),
                  block.mixer         ? "another mixer than attention"
                  : block.ffn.routing ? "experts"
                                      : "FFNs of low rank");
    if (block.attention.bias != Attention::Bias::none ||
        (block.attention.qk_norm && block.attention.qk_norm_over != Attention::NormOver::head))
      return fail(ErrorCode::unsupported,
                  "cutting {}: its heads are not alike (slopes of their own, or norms over more than a head), so that "
                  "none can be left out",
                  source.path());
    const auto of = [](const Block& b) {
      return std::array{b.attention.heads, b.attention.kv_heads, b.attention.head_dim, b.ffn.width};
    };
    if (of(block) != of(first))
      return fail(ErrorCode::unsupported, "cutting {}: its blocks have different numbers of heads or units",
                  source.path());
  }
  const Attention& attention = first.attention;
  return KeptParts{attention.heads, attention.kv_heads, attention.head_dim, first.ffn.width, {}};
}

class CutModel : public ModelSource {
 public:
  CutModel(std::unique_ptr<ModelSource> source, const KeptParts& kept) : source_(std::move(source)) {
    path_ = source_->path();
    architecture_ = source_->architecture();
    for (Block& block : architecture_.blocks) {
      const auto stay = std::ssize(kept.layers.front().kv_heads);
      block.attention.heads = stay * (kept.heads / kept.kv_heads), block.attention.kv_heads = stay;
      block.ffn.width = std::ssize(kept.layers.front().units);
    }
    std::vector<ModelTensor> tensors;
    for (ModelTensor tensor : source_->tensors()) {
      KeptPlaces places = places_of(kept, tensor);
      if (places.rows) tensor.shape = tensor.shape.with_first(std::ssize(*places.rows));
      if (places.columns) {
        tensor.shape = {tensor.shape[0], std::ssize(*places.columns)};
        if (tensor.codec->block > 1) tensor.codec = &kF32;  // blocks do not lie as they did
      }
      if (places.rows || places.columns) places_[tensor.name] = std::move(places);
      tensors.push_back(std::move(tensor));
    }
    set_tensors(std::move(tensors));
  }

  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const override {
    const ModelTensor* const whole = source_->find(tensor.name);
    const auto found = places_.find(tensor.name);
    if (found == places_.end() || !whole) return source_->read(tensor, row, rows, to);
    const int64_t row_bytes = tensor.codec->bytes(tensor.shape.columns());
    if (row < 0 || rows < 0 || row + rows > tensor.shape.rows() || std::ssize(to) != rows * row_bytes)
      return fail(ErrorCode::invalid_argument, "reading {}: rows {} to {} of tensor '{}', which has {}", path_, row,
                  row + rows, tensor.name, tensor.shape.rows());
    const KeptPlaces& places = found->second;
    const bool vector = tensor.shape.rank() == 1;
    const auto* const columns = vector ? &places.rows : &places.columns;
    std::vector<float> all, some;
    for (int64_t r = 0; r < rows; ++r, to = to.subspan(static_cast<size_t>(row_bytes))) {
      const int64_t from = places.rows && !vector ? (*places.rows)[static_cast<size_t>(row + r)] : row + r;
      if (!*columns) {
        CHECK_OK(source_->read(*whole, from, 1, to.first(static_cast<size_t>(row_bytes))));
        continue;
      }
      CHECK_OK(decode_row(*source_, *whole, from, all));
      some.clear();
      for (const int64_t place : **columns) some.push_back(all[static_cast<size_t>(place)]);
      tensor.codec->encode(some.data(), to.data(), std::ssize(some));
    }
    return {};
  }

 private:
  static KeptPlaces places_of(const KeptParts& kept, const ModelTensor& tensor) {
    if (!tensor.name.starts_with("model.layers.")) return {};
    const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
    KeptPlaces places = kept_places(kept, block_of(tensor.name), module.substr(module.rfind('.') + 1));
    if (tensor.shape.rank() == 1) places.columns.reset();  // biases are of outputs
    return places;
  }

  std::unique_ptr<ModelSource> source_;
  std::map<std::string, KeptPlaces, std::less<>> places_;
};

Result<Places> places_from(const JsonFields& layer, std::string_view key, int64_t whole) {
  const Json* const list = layer.find(key);
  Places out;
  const auto whole_number = [](const Json& x) { return x.is_number_integer() && x >= 0 && x <= int64_t{1} << 40; };
  if (list && list->is_array() && std::ranges::all_of(*list, whole_number)) out = list->get<Places>();
  const bool in_order = std::ranges::adjacent_find(out, std::greater_equal<>()) == out.end();
  if (out.empty() || !in_order || out.back() >= whole)
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be rising numbers below {}, one at least", layer.source(),
                key, whole);
  return out;
}

}  // namespace

Result<KeptParts> choose_kept(const ModelSource& source, double ratio, CutBy by, uint64_t key) {
  KeptParts kept = TRY(extents(source));
  const auto stay = [&](int64_t count, int64_t together) {
    const int64_t groups = count / together;
    return std::clamp<int64_t>(std::llround((1 - ratio) * static_cast<double>(groups)), 1, groups) * together;
  };
  const KeptParts::Layer counts{Places(static_cast<size_t>(stay(kept.kv_heads, 1))),
                                Places(static_cast<size_t>(stay(kept.units, std::min(kUnitsTogether, kept.units))))};
  for (size_t layer = 0; layer < source.architecture().blocks.size(); ++layer) {
    const std::string stream = fmt::format("cut.{}.", layer);
    if (by == CutBy::magnitude)
      kept.layers.push_back(TRY(largest_parts(source, kept, layer, counts)));
    else
      kept.layers.push_back({drawn(kept.kv_heads, std::ssize(counts.kv_heads), key, stream + "heads"),
                             drawn(kept.units, std::ssize(counts.units), key, stream + "units")});
  }
  return kept;
}

Result<std::unique_ptr<ModelSource>> cut_model(std::unique_ptr<ModelSource> source, const KeptParts& kept) {
  CHECK_OK(check_whole(kept, source->architecture(), source->path()));
  return std::make_unique<CutModel>(std::move(source), kept);
}

KeptPlaces kept_places(const KeptParts& kept, size_t layer, std::string_view module) {
  const KeptParts::Layer& parts = kept.layers[layer];
  const int64_t group = kept.heads / kept.kv_heads * kept.head_dim;
  if (module == "q_proj") return {elements(parts.kv_heads, group), {}, kept.heads * kept.head_dim};
  if (module == "o_proj") return {{}, elements(parts.kv_heads, group), 0, kept.heads * kept.head_dim};
  if (module == "k_proj" || module == "v_proj")
    return {elements(parts.kv_heads, kept.head_dim), {}, kept.kv_heads * kept.head_dim};
  if (module == "gate_proj" || module == "up_proj") return {parts.units, {}, kept.units};
  if (module == "down_proj") return {{}, parts.units, 0, kept.units};
  return {};
}

Result<void> check_whole(const KeptParts& kept, const Architecture& whole, const std::string& source) {
  const auto fits = [&](const Block& block) {
    return block.attention.heads == kept.heads && block.attention.kv_heads == kept.kv_heads &&
           block.attention.head_dim == kept.head_dim && block.ffn.width == kept.units;
  };
  if (whole.blocks.size() == kept.layers.size() && std::ranges::all_of(whole.blocks, fits)) return {};
  return fail(ErrorCode::invalid_argument,
              "{} is not the model that was cut: that had {} blocks of {} heads ({} of keys) of {} and {} units",
              source, kept.layers.size(), kept.heads, kept.kv_heads, kept.head_dim, kept.units);
}

Result<void> write_kept(const std::string& folder, const KeptParts& kept) {
  nlohmann::ordered_json json = {
      {"whole",
       {{"heads", kept.heads}, {"kv_heads", kept.kv_heads}, {"head_dim", kept.head_dim}, {"units", kept.units}}}};
  for (const KeptParts::Layer& layer : kept.layers)
    json["layers"].push_back({{"kv_heads", layer.kv_heads}, {"units", layer.units}});
  return write_text_file(folder + kKeptFile, json.dump() + "\n");
}

Result<KeptParts> read_kept(const std::string& folder) {
  const std::string path = folder + kKeptFile;
  if (!is_file(path))
    return fail(ErrorCode::invalid_argument, "opening {}: it has no {}, which 'thimble cut' writes", folder,
                kKeptFile + 1);
  const Json json = TRY(read_json_file(path, kLargestFile));
  const JsonFields fields = TRY(JsonFields::of(json, path)), whole = TRY(fields.object("whole"));
  KeptParts kept;
  for (const auto& [key, number] : {std::pair{"heads", &kept.heads},
                                    {"kv_heads", &kept.kv_heads},
                                    {"head_dim", &kept.head_dim},
                                    {"units", &kept.units}}) {
    *number = TRY(whole.get<int64_t>(key));
    if (*number < 1 || *number > int64_t{1} << 24)
      return fail(ErrorCode::corrupt, "reading {}: '{}' is {}; expected 1 to 2^24", path, key, *number);
  }
  const Json* const layers = fields.find("layers");
  if (!layers || !layers->is_array() || layers->empty() || kept.heads % kept.kv_heads != 0)
    return fail(ErrorCode::corrupt, "reading {}: 'layers' should be a list, and 'heads' a multiple of 'kv_heads'",
                path);
  for (const Json& layer : *layers) {
    const JsonFields of = TRY(JsonFields::of(layer, path));
    kept.layers.emplace_back().kv_heads = TRY(places_from(of, "kv_heads", kept.kv_heads));
    kept.layers.back().units = TRY(places_from(of, "units", kept.units));
    if (kept.layers.back().kv_heads.size() != kept.layers.front().kv_heads.size() ||
        kept.layers.back().units.size() != kept.layers.front().units.size())
      return fail(ErrorCode::corrupt, "reading {}: layer {} keeps other numbers of heads or units than the first", path,
                  kept.layers.size() - 1);
  }
  return kept;
}

}  // namespace thimble
