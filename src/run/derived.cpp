#include "run/derived.h"

#include <algorithm>
#include <cstring>

#include "plan/machine.h"
#include "run/executor.h"

namespace thimble {
namespace {

constexpr int64_t kMostRows = 1024;

// Rows of one weight, and what is computed of them.
struct Piece {
  Graph graph;
  Layout layout;
  Schedule schedule;
  std::string result;
  int64_t bytes() const { return layout.bytes() + schedule.peak_bytes; }
};

Result<Piece> plan_piece(const Rewrite& technique, const AdaptedModule& module, const Shape& weight, int64_t first,
                         int64_t rows) {
  Piece piece;
  std::map<std::string, ValueId> made;
  std::map<std::string, AdapterTensor> tensors;
  ModuleRewrite m(piece.graph, module, made, tensors, Role::weight);
  m.out = weight[0], m.in = weight[1];
  m.w = piece.graph.add_value("base", {weight.with_first(rows)}, Role::weight);
  m.first = first, m.merged = rows;
  Value& result = piece.graph.value(technique.begin(m));
  result.role = Role::result;
  piece.result = result.name;
  CHECK_OK(piece.layout.add(piece.graph));
  piece.schedule = make_schedule(piece.graph, nodes_between(0, piece.graph.nodes().size()),
                                 node_costs(piece.graph, Multiply::f32, 1, {}));
  place(piece.schedule);
  return piece;
}

class Beginning {
 public:
  Beginning(const Rewrite& technique, const ModelSource& source, Threads& threads)
      : technique_(technique), source_(source), threads_(threads) {}

  // Elements [first, first + count) of the value, one a row of the weight.
  Result<void> fill(const AdaptedModule& module, int64_t first, int64_t count, float* to, std::span<std::byte> spare) {
    const ModelTensor* tensor = source_.find(module.name + ".weight");
    if (!tensor) tensor = source_.find("model.embed_tokens.weight");  // the head where it is the embedding
    for (int64_t at = first; at < first + count;) {
      int64_t rows = std::min(kMostRows, first + count - at);
      Piece piece = TRY(plan_piece(technique_, module, tensor->shape, at, rows));
      while (piece.bytes() > static_cast<int64_t>(spare.size()) && rows > 1)
        rows /= 2, piece = TRY(plan_piece(technique_, module, tensor->shape, at, rows));
      if (piece.bytes() > static_cast<int64_t>(spare.size()))
        return fail(ErrorCode::over_budget,
                    "--method {}: a row of '{}' ({} bytes with what is made of it) does not fit the "
                    "staging memory; give a larger --memory",
                    technique_.name, tensor->name, piece.bytes());
      std::byte* const base = spare.data();
      CHECK_OK(read(*tensor, at, rows, reinterpret_cast<float*>(base + piece.layout.find("base")->offset)));
      RunContext context{threads_, Multiply::f32, 0, 0, 0};
      Executor(piece.graph, piece.schedule, piece.layout, {base, piece.layout.bytes()}).run(context);
      std::memcpy(to + (at - first), base + piece.layout.find(piece.result)->offset, static_cast<size_t>(4 * rows));
      at += rows;
    }
    return {};
  }

 private:
  Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, float* to) const {
    const int64_t columns = tensor.shape[1];
    std::vector<std::byte> bytes(static_cast<size_t>(tensor.codec->bytes(columns)));
    for (int64_t i = 0; i < rows; ++i) {
      CHECK_OK(source_.read(tensor, row + i, 1, bytes));
      tensor.codec->decode(bytes.data(), to + i * columns, columns);
    }
    return {};
  }

  const Rewrite& technique_;
  const ModelSource& source_;
  Threads& threads_;
};

}  // namespace

Result<void> begin_from_weights(std::span<const RewriteSpec> stack, std::span<const AdapterTensor> tensors,
                                const ModelSource& source, Threads& threads, Values& values, const Loaded& loaded) {
  for (const RewriteSpec& spec : stack) {
    if (!spec.rewrite->begin) continue;
    for (const auto& [name, module] : spec.modules)
      for (const AdapterTensor& tensor : tensors) {
        const bool own = tensor.derived && tensor.technique == spec.rewrite->name && tensor.rows.first == module.rows.first &&
                         tensor.stored == fmt::format("model.{}.{}", module.owner, spec.rewrite->begins);
        const Layout::Entry* const entry =
            own && !loaded.contains(tensor.value) ? values.layout().find(tensor.value) : nullptr;
        if (!entry) continue;
        Beginning beginning(*spec.rewrite, source, threads);
        CHECK_OK(values.fill(*entry, 1, [&](int64_t first, int64_t count, std::byte* to, std::span<std::byte> spare) {
          return beginning.fill(module, first, count, reinterpret_cast<float*>(to), spare);
        }));
      }
  }
  return {};
}

}  // namespace thimble
