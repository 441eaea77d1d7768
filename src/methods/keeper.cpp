#include "methods/keeper.h"

#include <algorithm>

#include "core/nearest.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {

const Keeper kExactKeeper = {.name = "exact", .summary = "activations are kept as they were made", .paper = ""};

std::span<const Keeper* const> keepers() {
  static constexpr const Keeper* kTable[] = {&kExactKeeper, &kQ8Keeper, &kMesa, &kFewBit,    &kApproxBp,
                                             &kMsNorm,      &kWtaCrs,   &kCoat, &kReversible};
  return kTable;
}

Result<std::vector<KeeperUse>> keepers_named(std::string_view names) {
  std::vector<KeeperUse> out;
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    const Keeper* const keeper = TRY(find_named("--keep", "keeper", keepers(), names.substr(begin, end - begin)));
    begin = end + 1;
    if (std::ranges::find(out, keeper, &KeeperUse::keeper) != out.end())
      return fail(ErrorCode::invalid_argument, "--keep {}: {} is there twice", names, keeper->name);
    if (keeper->exact() && names != keeper->name)
      return fail(ErrorCode::invalid_argument, "--keep {}: {} keeps everything as it is; leave it or the others out",
                  names, keeper->name);
    if (!keeper->exact()) out.emplace_back(*keeper);
  }
  return out;
}

Kept::Kept(Backward& backward, std::span<const KeeperUse> uses)
    : backward_(backward), uses_(uses), keeps_(uses.size()) {
  if (uses.empty()) return;
  backward.keep_by({[this](ValueId value) { return saved(value, 0); },
                    [this](const Node& node) -> Result<bool> { return gradient(node); }});
}

bool Kept::keepable(ValueId value) const {
  const Graph& graph = backward_.graph();
  const int producer = graph.producer(value);
  if (graph.block() < 0 || producer < 0) return false;
  const Node& node = graph.nodes()[static_cast<size_t>(producer)];
  const Type& type = graph.value(value).type;
  const bool tokens = type.shape.rank() == 2 && type.extent != Extent::fixed;
  return tokens && node.phase == Phase::forward && node.out[0] == value &&
         (type.codec == &kF32 || type.codec == &kBf16) && graph.value(value).role == Role::activation;
}

bool Kept::asks(const Keeper& keeper, ValueId value) const {
  if (!keeper.saved) return false;
  if (!keeper.any_value) return keepable(value);
  const Graph& graph = backward_.graph();
  const int producer = graph.producer(value);
  if (graph.block() < 0 || producer < 0) return false;
  const auto node = static_cast<size_t>(producer);
  return graph.nodes()[node].phase == Phase::forward && !stores_.contains(node);
}

ValueId Kept::saved(ValueId value, size_t first) {
  for (size_t i = first; i < uses_.size(); ++i) {
    if (!asks(*uses_[i].keeper, value)) continue;
    Keeping keeping(*this, i);
    if (const ValueId answer = uses_[i].keeper->saved(keeping, value); answer != value) return answer;
  }
  return value;
}

bool Kept::gradient(const Node& node) {
  if (node.block < 0) return false;
  for (size_t i = 0; i < uses_.size(); ++i) {
    Keeping keeping(*this, i);
    if (uses_[i].keeper->gradient && uses_[i].keeper->gradient(keeping, node)) return true;
  }
  return false;
}

size_t Kept::position(ValueId value) const {
  const int producer = value == kNone ? -1 : backward_.graph().producer(value);
  if (producer < 0) return 0;
  const auto store = stores_.find(static_cast<size_t>(producer));
  return store == stores_.end() ? static_cast<size_t>(producer) : store->second;
}

void Kept::place() {
  if (stores_.empty()) return;
  Graph& graph = backward_.graph();
  std::vector<std::pair<size_t, size_t>> order;  // (behind which node, node)
  for (size_t i = 0; i < graph.nodes().size(); ++i) order.emplace_back(i, i);
  for (const auto& [store, behind] : stores_) order[store].first = behind;
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<size_t> permutation;
  permutation.reserve(order.size());
  for (const auto& [behind, node] : order) permutation.push_back(node);
  graph.reorder(permutation);
}

std::vector<std::string_view> Kept::idle() const {
  std::vector<std::string_view> names;
  for (size_t i = 0; i < uses_.size(); ++i)
    if (!keeps_[i]) names.push_back(uses_[i].keeper->name);
  return names;
}

std::vector<ValueId> Keeping::forward(const Op& op, std::any attributes, std::vector<ValueId> in,
                                      const std::string& name) {
  Graph& graph = this->graph();
  keeps();
  size_t behind = 0;
  for (const ValueId id : in) behind = std::max(behind, kept_.position(id));
  const Phase phase = graph.phase();
  graph.set_phase(Phase::forward);
  kept_.stores_[graph.nodes().size()] = behind;
  std::vector<ValueId> out = graph.emit_all(op, std::move(attributes), std::move(in), name);
  graph.set_phase(phase);
  return out;
}

ValueId Keeping::once(std::string_view purpose, ValueId value, const std::function<ValueId()>& make) {
  const auto key = std::tuple(index_, purpose, value, block());
  if (const auto found = kept_.shared_.find(key); found != kept_.shared_.end()) return found->second;
  return kept_.shared_[key] = make();
}

std::string Keeping::name(ValueId value) {
  return fmt::format("{}.{}.{}", kept_.uses_[index_].keeper->name, block(), graph().value(value).name);
}

ValueId Keeping::state(const std::string& name, const Shape& shape, float initial) {
  kept_.states_.push_back(name);
  return graph().add_value(name, {shape}, Role::state, Initial::constant(initial));
}

ValueId Keeping::accumulator(const std::string& name, const Shape& shape) {
  return graph().add_value("gradient." + name, {shape}, Role::gradient);
}

ValueId kept_in(Keeping& keeping, ValueId value, const Codec& codec) {
  const auto converted = [](const Codec& to) {
    PointwiseBuilder b;
    b.output(b.tensor(), &to);
    return b.attributes();
  };
  const Codec* const own = keeping.graph().value(value).type.codec;
  const std::string name = keeping.name(value);
  const ValueId kept = keeping.forward(kPointwise, converted(codec), {value}, name)[0];
  return keeping.graph().emit(kPointwise, converted(*own), {kept}, name + ".restored");
}

}  // namespace thimble
