#include "run/derived.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>

#include "core/round.h"
#include "methods/side.h"
#include "models/narrow_weights.h"
#include "plan/machine.h"
#include "run/arena.h"
#include "run/executor.h"

namespace thimble {
namespace {

constexpr int64_t kMostRows = 1024;

// Rows of one weight, and what is computed of them.
struct Piece {
  Graph graph;
  Layout layout;
  Schedule schedule;
  std::vector<std::pair<std::string, std::string>> results;  // suffix, name of the value
  int64_t bytes() const { return layout.bytes() + schedule.peak_bytes; }
};

const ModelTensor& weight_of(const AdaptedModule& module, const ModelSource& source) {
  const ModelTensor* const tensor = source.find(module.name + ".weight");
  return tensor ? *tensor : *source.find("model.embed_tokens.weight");  // the head where it is the embedding
}

// The shape of the weight that the layer is of in the file.
Shape whole_shape(const AdaptedModule& module, const ModelSource& source) {
  const Shape& shape = weight_of(module, source).shape;
  return module.parts.empty() ? shape : shape.with_first(module.whole);
}

using MakeOfWeight = std::function<std::vector<std::pair<std::string_view, ValueId>>(ModuleRewrite& m)>;

Result<Piece> plan_piece(const MakeOfWeight& make, bool by_rows, const AdaptedModule& module, const Shape& weight,
                         int64_t first, int64_t rows, int threads) {
  Piece piece;
  std::map<std::string, ValueId> made;
  std::map<std::string, AdapterTensor> tensors;
  ModuleRewrite m(piece.graph, module, made, tensors, Role::weight);
  m.embedding = module.is_embedding();
  m.out = weight[0], m.in = weight[1];
  m.w = piece.graph.add_value("base", {weight.with_first(rows)}, Role::weight);
  if (by_rows) m.first = first, m.merged = rows;
  for (const auto& [suffix, id] : make(m)) {
    piece.graph.value(id).role = Role::result;
    piece.results.emplace_back(suffix, piece.graph.value(id).name);
  }
  CHECK_OK(piece.layout.add(piece.graph));
  piece.schedule = make_schedule(piece.graph, nodes_between(0, piece.graph.nodes().size()),
                                 node_costs(piece.graph, Multiply::f32, threads, {}));
  place(piece.schedule);
  return piece;
}

Result<Piece> plan_piece(const Rewrite& technique, const AdaptedModule& module, const Shape& weight, int64_t first,
                         int64_t rows, int threads) {
  return plan_piece(technique.begin, begins_by_rows(technique, module), module, weight, first, rows, threads);
}

Result<void> read_rows(const ModelSource& source, const ModelTensor& tensor, std::span<const int64_t> rows, float* to) {
  const int64_t columns = tensor.shape[1];
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.codec->bytes(columns)));
  for (const int64_t row : rows) {
    CHECK_OK(source.read(tensor, row, 1, bytes));
    tensor.codec->decode(bytes.data(), to, columns);
    to += columns;
  }
  return {};
}

// All rows of layers that are one of the file, in its order.
Result<void> read_parts(const ModelSource& source, const AdaptedModule& module, float* to) {
  for (const AdaptedModule::Part& part : module.parts) {
    const ModelTensor& tensor = *source.find(part.name + ".weight");
    for (int64_t row = 0; row < tensor.shape[0]; ++row)
      CHECK_OK(read_rows(source, tensor, std::span(&row, 1), to + part.row_of_owner(row) * tensor.shape[1]));
  }
  return {};
}

std::vector<int64_t> rows_from(int64_t first, int64_t count) {
  std::vector<int64_t> rows(static_cast<size_t>(count));
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

// Those of a weight that Rewrite::begin reads.
std::vector<int64_t> begin_rows(const Rewrite& technique, const AdaptedModule& module, const Shape& weight) {
  return technique.begin_rows ? technique.begin_rows(module) : rows_from(0, weight[0]);
}

Error does_not_fit(const Rewrite& technique, const AdaptedModule& module, const char* what, int64_t bytes) {
  return {
      ErrorCode::over_budget,
      fmt::format("--method {}: {} of '{}' ({} bytes with what is made of it) does not fit the staging memory; give "
                  "a larger --memory",
                  technique.name, what, module.owner + ".weight", bytes),
      bytes};
}

// Computes a piece in `base`, of these rows of the layer; empty: of all of the layer of the file.
Result<void> run_piece(const Piece& piece, const ModelSource& source, const AdaptedModule& module,
                       std::span<const int64_t> rows, Threads& threads, std::byte* base) {
  float* const to = reinterpret_cast<float*>(base + piece.layout.find("base")->offset);
  CHECK_OK(rows.empty() ? read_parts(source, module, to) : read_rows(source, weight_of(module, source), rows, to));
  RunContext context{threads, Multiply::f32, 0, 0, 0};
  Executor(piece.graph, piece.schedule, piece.layout, Places(piece.layout, base)).run(context);
  return {};
}

class Beginning {
 public:
  Beginning(const Rewrite& technique, const ModelSource& source, Threads& threads)
      : technique_(technique), source_(source), threads_(threads) {}

  // Elements [first, first + count) of the value, one a row of the weight.
  Result<void> fill(const AdaptedModule& module, int64_t first, int64_t count, float* to, std::span<std::byte> spare) {
    const ModelTensor& tensor = weight_of(module, source_);
    for (int64_t at = first; at < first + count;) {
      int64_t rows = std::min(kMostRows, first + count - at);
      Piece piece = TRY(plan(module, tensor, at, rows));
      while (piece.bytes() > static_cast<int64_t>(spare.size()) && rows > 1)
        rows /= 2, piece = TRY(plan(module, tensor, at, rows));
      if (piece.bytes() > static_cast<int64_t>(spare.size()))
        return Failure(does_not_fit(technique_, module, "a row", piece.bytes()));
      CHECK_OK(run_piece(piece, source_, module, rows_from(at, rows), threads_, spare.data()));
      std::memcpy(to + (at - first), spare.data() + piece.layout.find(piece.results.front().second)->offset,
                  static_cast<size_t>(4 * rows));
      at += rows;
    }
    return {};
  }

 private:
  Result<Piece> plan(const AdaptedModule& module, const ModelTensor& tensor, int64_t at, int64_t rows) const {
    return plan_piece(technique_, module, tensor.shape, at, rows, threads_.count());
  }

  const Rewrite& technique_;
  const ModelSource& source_;
  Threads& threads_;
};

// The suffix of a derived tensor of this layer, or of all layers of its owner; "" where it is none.
std::string suffix_of(const AdaptedModule& module, const AdapterTensor& tensor) {
  const std::string before = fmt::format("model.{}.", module.owner);
  if (!tensor.derived || !tensor.stored.starts_with(before)) return "";
  const std::string suffix = tensor.stored.substr(before.size());
  const bool of_owner = tensor.value.ends_with(suffix);  // rows of it have names of their own
  return of_owner || tensor.rows.first == module.rows.first ? suffix : "";
}

// What of a layer's derived values nothing has filled.
struct Wanted {
  const AdapterTensor* tensor;
  const Layout::Entry* entry;
};
std::vector<Wanted> wanted_of(size_t place, const AdaptedModule& module, std::span<const AdapterTensor> tensors,
                              const Values& values, const Loaded& loaded) {
  std::vector<Wanted> out;
  for (const AdapterTensor& tensor : tensors) {
    if (tensor.place != place || suffix_of(module, tensor).empty() || loaded.contains(tensor.value)) continue;
    if (const Layout::Entry* const entry = values.layout().find(tensor.value)) out.push_back({&tensor, entry});
  }
  return out;
}

// `begun`: what is computed of its whole weight; empty where it is made row by row.
Result<void> begin_module(const Rewrite& technique, const AdaptedModule& module, std::span<const Wanted> wanted,
                          const ModelSource& source, const Begun& begun, Threads& threads, Values& values) {
  Beginning beginning(technique, source, threads);
  for (const auto& [tensor, entry] : wanted)
    CHECK_OK(values.fill(*entry, 1,
                         [&, tensor = tensor, &shape = entry->type.shape](int64_t first, int64_t count, std::byte* to,
                                                                          std::span<std::byte> spare) {
                           float* const numbers = reinterpret_cast<float*>(to);
                           if (begun.empty()) return beginning.fill(module, first, count, numbers, spare);
                           read_begun(begun, module, *tensor, shape, first, {numbers, static_cast<size_t>(count)});
                           return Result<void>();
                         }));
  return {};
}

// Narrow blocks beside the model, as rows and columns of its own: what it has no such tensor for begins at random.
Result<void> begin_narrow(const RewriteSpec& spec, std::span<const AdapterTensor> tensors, const ModelSource& source,
                          Values& values, const Loaded& loaded) {
  std::optional<NarrowWeights> weights;
  for (const AdapterTensor& tensor : tensors) {
    const Layout::Entry* const entry = values.layout().find(tensor.value);
    if (!tensor.derived || !tensor.value.starts_with(kSide) || !entry || loaded.contains(tensor.value)) continue;
    const OptionValues& options = spec.modules.begin()->second.options;
    if (!weights) weights = TRY(NarrowWeights::choose(source, spec.rewrite->narrower(options)));
    const std::string name = tensor.value.substr(kSide.size());
    if (!weights->has(name)) continue;
    const int64_t columns = entry->type.shape.columns();
    CHECK_OK(values.fill(*entry, columns, [&](int64_t first, int64_t count, std::byte* to, auto) -> Result<void> {
      for (int64_t at = 0; at < count; at += columns)
        CHECK_OK(weights->read(name, (first + at) / columns,
                               {reinterpret_cast<float*>(to) + at, static_cast<size_t>(columns)}));
      return {};
    }));
  }
  return {};
}

}  // namespace

Result<Begun> begin_of(const Rewrite& technique, const AdaptedModule& module, const ModelSource& source,
                       Threads& threads, std::span<std::byte> spare) {
  const Shape shape = whole_shape(module, source);
  std::vector<int64_t> rows = begin_rows(technique, module, shape);
  const auto count = static_cast<int64_t>(rows.size());
  if (!module.parts.empty()) rows.clear();
  const Piece piece = TRY(plan_piece(technique, module, shape, 0, count, threads.count()));
  if (piece.bytes() > static_cast<int64_t>(spare.size()))
    return Failure(does_not_fit(technique, module, "the whole", piece.bytes()));
  CHECK_OK(run_piece(piece, source, module, rows, threads, spare.data()));
  Begun begun;
  for (const auto& [suffix, name] : piece.results) {
    const Layout::Entry* const entry = piece.layout.find(name);
    const float* const numbers = reinterpret_cast<const float*>(spare.data() + entry->offset);
    begun[suffix].assign(numbers, numbers + entry->type.shape.count());
  }
  return begun;
}

Result<std::vector<float>> measure_weight(const Rewrite& technique, const AdaptedModule& module,
                                          const ModelSource& source, Threads& threads, int64_t most) {
  const ModelTensor& tensor = weight_of(module, source);
  const int64_t rows = tensor.shape[0];
  const auto make = [&](ModuleRewrite& m) {
    return std::vector<std::pair<std::string_view, ValueId>>{{"measured", technique.settling->of_weight(m)}};
  };
  const Piece piece = TRY(plan_piece(make, false, module, tensor.shape, 0, rows, threads.count()));
  if (piece.bytes() > most) return Failure(does_not_fit(technique, module, "the whole", piece.bytes()));
  const Arena arena = TRY(Arena::create(piece.bytes(), threads));
  CHECK_OK(run_piece(piece, source, module, rows_from(0, rows), threads, arena.data()));
  const Layout::Entry* const entry = piece.layout.find(piece.results.front().second);
  const float* const numbers = reinterpret_cast<const float*>(arena.data() + entry->offset);
  return std::vector<float>(numbers, numbers + entry->type.shape.count());
}

bool begins_by_rows(const Rewrite& technique, const AdaptedModule& module) {
  return technique.begins_by_rows && !module.is_embedding();
}

bool read_begun(const Begun& begun, const AdaptedModule& module, const AdapterTensor& tensor, const Shape& shape,
                int64_t first, std::span<float> to) {
  const auto found = begun.find(suffix_of(module, tensor));
  if (found == begun.end()) return false;
  const std::vector<float>& numbers = found->second;
  const bool some_rows = !module.parts.empty() && tensor.whole != shape;
  const int64_t columns = shape.rank() == 2 ? shape[1] : 1;
  for (int64_t i = 0; i < std::ssize(to); ++i) {
    const int64_t e = first + i, row = e / columns;
    to[static_cast<size_t>(i)] =
        numbers[static_cast<size_t>(some_rows ? module.row_of_owner(row) * columns + e % columns : e)];
  }
  return true;
}

Result<int64_t> begin_bytes(std::span<const RewriteSpec> stack, const ModelSource& source) {
  int64_t most = 0;
  std::set<std::string> seen;  // layers that are alike
  for (const RewriteSpec& spec : stack) {
    if (!spec.rewrite->begin) continue;
    for (const auto& [name, module] : spec.modules) {
      if (begins_by_rows(*spec.rewrite, module)) continue;
      const Shape shape = whole_shape(module, source);
      if (!seen.insert(shape.text() + module.options.text()).second) continue;
      // Threads there are unknown: their buffers are small beside the matrices.
      const auto rows = static_cast<int64_t>(begin_rows(*spec.rewrite, module, shape).size());
      const Piece piece = TRY(plan_piece(*spec.rewrite, module, shape, 0, rows, 1));
      most = std::max(most, piece.bytes() + kDiskAlignment);
    }
  }
  return most;
}

Result<void> begin_from_weights(std::span<const RewriteSpec> stack, std::span<const AdapterTensor> tensors,
                                const ModelSource& source, Threads& threads, Values& values, const Loaded& loaded,
                                const std::function<Result<void>(int64_t done, int64_t layers)>& before_each) {
  struct Layer {
    const Rewrite* technique;
    const AdaptedModule* module;
    std::vector<Wanted> wanted;
  };
  std::vector<Layer> layers;
  for (size_t i = 0; i < stack.size(); ++i) {
    const RewriteSpec& spec = stack[i];
    if (spec.rewrite->join) CHECK_OK(begin_narrow(spec, tensors, source, values, loaded));
    if (!spec.rewrite->begin) continue;
    for (const auto& [name, module] : spec.modules)
      if (auto wanted = wanted_of(i, module, tensors, values, loaded); !wanted.empty())
        layers.push_back({spec.rewrite, &module, std::move(wanted)});
  }
  // Those of one owner lie together, so that it is computed with once.
  const auto owner = [](const Layer& layer) { return std::tie(layer.technique->name, layer.module->owner); };
  std::ranges::stable_sort(layers, {}, owner);
  Begun begun;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (before_each) CHECK_OK(before_each(static_cast<int64_t>(i), static_cast<int64_t>(layers.size())));
    const auto& [technique, module, wanted] = layers[i];
    const bool by_rows = begins_by_rows(*technique, *module);
    if (by_rows || i == 0 || owner(layers[i - 1]) != owner(layers[i])) begun.clear();
    if (!by_rows && begun.empty()) begun = TRY(begin_of(*technique, *module, source, threads, values.staging()));
    CHECK_OK(begin_module(*technique, *module, wanted, source, begun, threads, values));
  }
  return {};
}

}  // namespace thimble
