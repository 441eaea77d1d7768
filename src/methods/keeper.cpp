#include "methods/keeper.h"

#include "core/nearest.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

ValueId converted(Graph& graph, ValueId value, const Codec& codec, const std::string& name) {
  PointwiseBuilder b;
  b.output(b.tensor(), &codec);
  return graph.emit(kPointwise, b.attributes(), {value}, name);
}

}  // namespace

const Keeper kExactKeeper = {.name = "exact", .summary = "activations are kept as they were made", .paper = ""};

const Keeper kQ8Keeper = {.name = "q8_0",
                          .summary = "activations of blocks are kept in 8 bits, one scale for 32 of them",
                          .paper = "Chen et al. 2021 (ActNN, arXiv:2104.14129), with absmax scales and to nearest",
                          .codec = &kQ8_0};

std::span<const Keeper* const> keepers() {
  static constexpr const Keeper* kTable[] = {&kExactKeeper, &kQ8Keeper};
  return kTable;
}

Result<const Keeper*> keeper_named(std::string_view name) { return find_named("--keep", "keeper", keepers(), name); }

// Only what a block makes or is given, of floating point and as a node's first result: the others are statistics of a
// number a row.
ValueId Kept::saved(ValueId value) {
  const int block = graph_.block(), producer = graph_.producer(value);
  if (keeper_.exact() || block < 0 || producer < 0 || static_cast<size_t>(producer) >= forward_) return value;
  const Type type = graph_.value(value).type;
  const bool first = graph_.nodes()[static_cast<size_t>(producer)].out[0] == value;
  const bool floating = type.codec == &kF32 || type.codec == &kBf16;
  if (!first || !floating || graph_.value(value).role != Role::activation) return value;
  if (type.shape.columns() % keeper_.codec->block != 0) return value;
  const auto [at, added] = restored_.try_emplace({value, block}, kNone);
  if (!added) return at->second;
  const std::string name = graph_.value(value).name;
  const Phase phase = graph_.phase();
  graph_.set_phase(Phase::forward);
  stores_.emplace_back(static_cast<size_t>(producer), graph_.nodes().size());
  const ValueId kept = converted(graph_, value, *keeper_.codec, fmt::format("kept.{}.{}", block, name));
  graph_.set_phase(phase);
  at->second = converted(graph_, kept, *type.codec, fmt::format("restored.{}.{}", block, name));
  return at->second;
}

void Kept::place() {
  if (stores_.empty()) return;
  std::vector<std::pair<size_t, size_t>> order;  // (after which node, node)
  for (size_t i = 0; i < graph_.nodes().size(); ++i) order.emplace_back(i, i);
  for (const auto& [producer, store] : stores_) order[store].first = producer;
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<size_t> permutation;
  permutation.reserve(order.size());
  for (const auto& [after, node] : order) permutation.push_back(node);
  graph_.reorder(permutation);
}

}  // namespace thimble
