#include "run/merged.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "plan/layout.h"
#include "plan/machine.h"
#include "plan/schedule.h"
#include "run/executor.h"
#include "run/weights.h"

namespace thimble {
namespace {

constexpr int64_t kSlabBytes = 4 << 20;  // of the rows of a weight that are merged at once
constexpr const char* kEmbeddingTensor = "model.embed_tokens.weight";
constexpr const char* kHeadTensor = "lm_head.weight";

std::string without_end(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

}  // namespace

struct MergedModel::Slab {
  std::string tensor;
  int64_t row = 0, rows = 0;
  Graph graph;
  std::map<std::string, AdapterTensor> tensors;  // by value
  ValueId base = kNone, result = kNone;
  Layout layout;
  Schedule schedule;
  int64_t bytes = 0;
  std::byte* memory = nullptr;  // slab_memory_

  float* at(const std::string& name) const { return reinterpret_cast<float*>(memory + layout.find(name)->offset); }
};

Result<std::byte*> MergedModel::Buffer::of(int64_t wanted, const std::string& what) {
  constexpr int64_t kAlignment = 4096;
  if (wanted <= bytes) return memory.get();
  bytes = (wanted + kAlignment - 1) / kAlignment * kAlignment;
  memory.reset();
  memory.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, static_cast<size_t>(bytes))), std::free);
  if (memory) return memory.get();
  return fail(ErrorCode::io, "merging '{}': no memory of {} bytes is left", what, std::exchange(bytes, 0));
}

namespace {

// A bias goes into the model's own: where a layer has none, its family has no place for one.
Result<void> check_biases(std::span<const Adapter> adapters, std::span<const AdapterTensor> placed) {
  std::set<std::string> read;
  for (const AdapterTensor& tensor : placed) read.insert(tensor_key(tensor.stored));
  for (const Adapter& adapter : adapters)
    for (const auto& [key, entry] : adapter.tensors)
      if (key.ends_with(".lora_B.bias") && !read.contains(key))
        return fail(ErrorCode::unsupported,
                    "merging {}: '{}' is a bias of a layer that has none in this model (lora_bias); use the adapter "
                    "beside the model, with --adapter",
                    adapter.path, entry.name);
  return {};
}

}  // namespace

Result<MergedModel> MergedModel::make(const ModelSource& source, std::span<Adapter> adapters) {
  MergedModel merged(source, adapters);
  merged.architecture_ = source.architecture();
  merged.threads_ = std::make_shared<Threads>(1);
  for (Adapter& adapter : adapters) {
    if (!adapter.rewrite->merges())
      return fail(ErrorCode::unsupported, "merging {}: {} {}; use it with --adapter", adapter.path,
                  adapter.rewrite->name, adapter.rewrite->not_merged);
    merged.specs_.push_back(TRY(rewrite_of(adapter, source.architecture())));
  }
  CHECK_OK(merged.list_tensors());
  // All tensors of the adapters have a place, and the shapes are the model's.
  std::vector<AdapterTensor> all;
  for (auto& [name, whole] : merged.whole_) {
    whole.second.place = whole.first;
    TRY(find_entry(adapters[whole.first], whole.second));
    all.push_back(whole.second);
  }
  for (ModelTensor& tensor : merged.tensors_) {
    if (!merged.changed_.contains(tensor.name)) continue;
    CHECK_OK(merged.make_slab(tensor, 0, tensor.shape.rank() < 2 ? tensor.shape[0] : 1));
    for (const auto& [value, placed] : merged.slab_->tensors) all.push_back(placed);
    if (!merged.slab_->tensors.empty() || merged.whole_.contains(tensor.name)) continue;
    merged.changed_.erase(tensor.name);  // a bias of a technique that could change it
    tensor.codec = merged.stored(tensor.name).codec;
  }
  merged.slab_.reset();
  CHECK_OK(check_biases(adapters, all));
  CHECK_OK(check_files(adapters, all));
  return merged;
}

// An embedding and a head that were one are two where an adapter is for one of them.
Result<void> MergedModel::list_tensors() {
  tensors_.assign(source_->tensors().begin(), source_->tensors().end());
  std::set<std::string> modules;
  bool apart = false;  // the embedding and the head
  for (size_t i = 0; i < specs_.size(); ++i) {
    for (const auto& [name, module] : specs_[i].modules) {
      modules.insert(name);
      apart |= !specs_[i].rewrite->with_tied_head && (name == "lm_head" || name == without_end(kEmbeddingTensor));
    }
    for (const AdapterTensor& tensor : specs_[i].trained) whole_.try_emplace(tensor.value, i, tensor);
  }
  if (architecture_.tied && apart) {
    architecture_.tied = false;
    tensors_.push_back({kHeadTensor, tensors_.front().codec, tensors_.front().shape});
  }
  for (ModelTensor& tensor : tensors_) {
    const bool weight = tensor.name.ends_with(".weight") && modules.contains(without_end(tensor.name));
    bool bias = false;
    for (const RewriteSpec& spec : specs_)
      bias |= tensor.name.ends_with(".bias") && spec.rewrite->bias && spec.modules.contains(without_end(tensor.name));
    if (!weight && !bias && !whole_.contains(tensor.name)) continue;
    changed_.insert(tensor.name);
    tensor.codec = &kF32;
  }
  return {};
}

const ModelTensor& MergedModel::stored(const std::string& name) const {
  const ModelTensor* const found = source_->find(name);
  return found ? *found : *source_->find(kEmbeddingTensor);
}

int64_t MergedModel::slab_rows(const ModelTensor& tensor) const {
  if (tensor.shape.rank() < 2) return tensor.shape[0];
  const std::string module = without_end(tensor.name);
  for (const RewriteSpec& spec : specs_)
    if (const auto found = spec.modules.find(module);
        found != spec.modules.end() && found->second.is_embedding() && spec.rewrite->merges_embedding_whole)
      return tensor.shape[0];
  return std::clamp<int64_t>(kSlabBytes / (4 * tensor.shape[1]), 1, tensor.shape[0]);
}

ReadRows MergedModel::rows() {
  return [this](const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) -> Result<void> {
    const bool merged = changed_.contains(tensor.name) && tensor.codec == &kF32;
    if (merged && tensor.shape.rank() < 2) return read_slab(tensor, 0, tensor.shape[0], to);
    if (merged) return read_slab(tensor, row, rows, to);
    return source_->read(stored(tensor.name), row, rows, to);
  };
}

// The base's rows, or the adapter's where it has them whole, in f32.
Result<void> MergedModel::read_base(const std::string& name, int64_t row, int64_t rows, float* to) {
  const ModelTensor& tensor = stored(name);
  const bool vector = tensor.shape.rank() < 2;
  const int64_t columns = vector ? tensor.shape[0] : tensor.shape[1];
  if (const auto whole = whole_.find(tensor.name == name ? name : ""); whole != whole_.end()) {
    const Adapter& adapter = adapters_[whole->second.first];
    const SafetensorsEntry* const entry = TRY(find_entry(adapter, whole->second.second));
    const auto count = static_cast<size_t>(vector ? columns : rows * columns);
    return read_elements(adapter, *entry, whole->second.second, tensor.shape, vector ? 0 : row * columns, {to, count});
  }
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.codec->bytes(columns)));
  for (int64_t i = 0; i < (vector ? 1 : rows); ++i) {
    CHECK_OK(source_->read(tensor, vector ? 0 : row + i, 1, bytes));
    tensor.codec->decode(bytes.data(), to + i * columns, columns);
  }
  return {};
}

Result<void> MergedModel::read_slab(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) {
  const int64_t columns = tensor.shape.rank() < 2 ? 1 : tensor.shape[1], at_once = slab_rows(tensor);
  for (int64_t done = 0; done < rows;) {
    const int64_t first = (row + done) / at_once * at_once;
    const bool there = slab_ && slab_->tensor == tensor.name && slab_->row == first;
    if (!there) {
      CHECK_OK(make_slab(tensor, first, std::min(at_once, tensor.shape[0] - first)));
      CHECK_OK(fill_slab(tensor));
    }
    const int64_t skip = row + done - first, some = std::min(rows - done, slab_->rows - skip);
    const float* const from = slab_->at(slab_->graph.value(slab_->result).name);
    std::memcpy(to.data() + 4 * done * columns, from + skip * columns, static_cast<size_t>(4 * some * columns));
    done += some;
  }
  return {};
}

// The graph of the rows, and the plan of its memory.
Result<void> MergedModel::make_slab(const ModelTensor& tensor, int64_t row, int64_t rows) {
  slab_ = std::make_shared<Slab>();
  Slab& slab = *slab_;
  slab.tensor = tensor.name, slab.row = row, slab.rows = rows;
  const bool bias = tensor.name.ends_with(".bias");
  const std::string module = without_end(tensor.name);
  const Shape shape = tensor.shape.with_first(rows);
  ValueId value = slab.base = slab.graph.add_value("base", {shape}, Role::weight);
  for (size_t i = 0; i < specs_.size(); ++i) {
    const RewriteSpec& spec = specs_[i];
    const auto found = spec.modules.find(module);
    if (found == spec.modules.end()) continue;
    std::map<std::string, ValueId> made;
    ModuleRewrite m(slab.graph, found->second, made, slab.tensors, Role::weight);
    m.embedding = found->second.is_embedding();
    const Shape& whole = stored(module + ".weight").shape;
    m.out = whole[0], m.in = whole[1];
    if (bias) {
      m.bias = value;
      if (spec.rewrite->bias) value = spec.rewrite->bias(m);
    } else {
      m.w = value, m.first = row, m.merged = rows;
      value = spec.rewrite->weight(m);
    }
    for (auto& [name, placed] : slab.tensors)
      if (placed.technique.empty()) placed.technique = spec.rewrite->name, placed.place = i;
  }
  slab.result = value;
  if (value == slab.base) slab.graph.value(value).role = Role::input;  // which no node has to read
  if (value != slab.base) slab.graph.value(value).role = Role::result, slab.graph.value(value).name = "merged";
  CHECK_OK(slab.layout.add(slab.graph));
  slab.schedule = make_schedule(slab.graph, nodes_between(0, slab.graph.nodes().size()),
                                node_costs(slab.graph, Multiply::f32, 1, {}));
  place(slab.schedule);
  slab.bytes = slab.layout.bytes() + slab.schedule.peak_bytes;
  return {};
}

// A value that begins with the weight and is in no file: of its layer they are computed once.
Result<void> MergedModel::begin(const std::string& value, const AdapterTensor& placed) {
  const RewriteSpec& spec = specs_[placed.place];
  const auto module = spec.modules.find(without_end(slab_->tensor));
  if (spec.rewrite->begin && !begins_by_rows(*spec.rewrite, module->second)) {
    if (begun_of_ != std::pair(placed.place, module->second.owner)) {
      const int64_t bytes = TRY(begin_bytes(specs_, *source_));
      std::byte* const spare = TRY(begin_memory_.of(bytes, slab_->tensor));
      begun_ = TRY(begin_of(*spec.rewrite, module->second, *source_, *threads_, {spare, static_cast<size_t>(bytes)}));
      begun_of_ = {placed.place, module->second.owner};
    }
    const Shape& shape = slab_->layout.find(value)->type.shape;
    const std::span to(slab_->at(value), static_cast<size_t>(shape.count()));
    if (read_begun(begun_, module->second, placed, shape, 0, to)) return {};
  }
  TRY(find_entry(adapters_[placed.place], placed));
  return {};
}

Result<void> MergedModel::fill_slab(const ModelTensor& tensor) {
  Slab& slab = *slab_;
  if (slab_memory_.bytes == 0) TRY(slab_memory_.of(largest_slab_bytes(), tensor.name));
  slab.memory = TRY(slab_memory_.of(slab.bytes, tensor.name));
  CHECK_OK(read_base(tensor.name, slab.row, slab.rows, slab.at("base")));
  for (const auto& [value, placed] : slab.tensors) {
    const Layout::Entry* const to = slab.layout.find(value);
    if (!to) continue;
    const Adapter& adapter = adapter_of(adapters_, placed);
    const bool there = adapter.tensors.contains(tensor_key(placed.stored));
    if (!there && placed.derived) {
      CHECK_OK(begin(value, placed));
      continue;
    }
    const SafetensorsEntry* const entry = TRY(find_entry(adapter, placed));
    if (!there) {
      begin_value(*to, value, slab.at(value));
      continue;
    }
    const auto count = static_cast<size_t>(to->type.shape.count());
    CHECK_OK(read_elements(adapter, *entry, placed, to->type.shape, 0, {slab.at(value), count}));
  }
  for (const auto& [name, entry] : slab.layout.entries())
    if (name != "base" && !slab.tensors.contains(name)) begin_value(entry, name, slab.at(name));
  RunContext context{*threads_, Multiply::f32, 0, 0, 0};
  Executor(slab.graph, slab.schedule, slab.layout, Places(slab.layout, slab.memory)).run(context);
  return {};
}

int64_t MergedModel::largest_slab_bytes() const {
  MergedModel dry = *this;
  int64_t most = 0;
  for (const ModelTensor& tensor : dry.tensors_)
    if (changed_.contains(tensor.name) && dry.make_slab(tensor, 0, slab_rows(tensor)))
      most = std::max(most, dry.slab_->bytes);
  return most;
}

int64_t MergedModel::buffer_bytes() const {
  int64_t most = largest_slab_bytes();
  if (const auto begun = begin_bytes(specs_, *source_)) most += *begun;
  return most;
}

}  // namespace thimble
