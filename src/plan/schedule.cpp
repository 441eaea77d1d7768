#include "plan/schedule.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/round.h"
#include "plan/disk_stays.h"

namespace thimble {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kPartElements = 256 << 10;  // of an elementwise node whose operands wait on disk

class Builder {
 public:
  Builder(const Graph& graph, const GraphTables& tables, const std::vector<NodeCost>& costs,
          const ScheduleOptions& options)
      : graph_(graph),
        tables_(tables),
        costs_(costs),
        options_(options),
        current_(graph.values().size(), -1),
        remade_(graph.values().size(), 0) {}

  Schedule build(const std::vector<int>& order) {
    schedule_.steps.reserve(order.size());
    schedule_.operands.reserve(6 * order.size());
    schedule_.residences.reserve(order.size());
    for (int node : order) add_node(node, false);
    mark_fresh_gradients();
    if (!options_.disk.empty()) add_disk_stays(graph_, tables_, costs_, options_, schedule_);
    share_storage();
    return std::move(schedule_);
  }

 private:
  // What lives in the persistent part: its own storage, or another's by an in-place operation.
  ValueId persistent_home(ValueId id) const {
    const ValueId owner = tables_.owner(id);
    if (owner == kNone) return kNone;
    if (options_.transient_gradients && tables_.role(owner) == Role::gradient) return kNone;
    return owner;
  }

  bool dropped(ValueId id) const {
    return !options_.recompute.empty() && options_.recompute[static_cast<size_t>(id)] && graph_.producer(id) >= 0;
  }

  bool on_disk(ValueId id) const {
    const ValueId home = id == kNone ? kNone : persistent_home(id);
    return home != kNone && !options_.disk.empty() && options_.disk[static_cast<size_t>(home)];
  }

  int new_residence(ValueId value, int64_t bytes) {
    const int at = static_cast<int>(schedule_.steps.size());
    schedule_.residences.push_back({.value = value, .begin = at, .end = at, .bytes = round_up(bytes, kAlignment)});
    return static_cast<int>(schedule_.residences.size()) - 1;
  }

  // The residence that a node reads now, making the value again if it was dropped.
  int operand(ValueId id, Phase phase) {
    if (id == kNone) return -1;
    if (const ValueId home = persistent_home(id); home != kNone) return persistent_operand(home);
    int& residence = current_[static_cast<size_t>(id)];
    if (phase != Phase::forward && dropped(id) && !std::exchange(remade_[static_cast<size_t>(id)], 1)) {
      add_node(graph_.producer(id), true);
      return current_[static_cast<size_t>(id)];
    }
    if (residence < 0) {  // a transient gradient is first seen as an operand
      residence = new_residence(id, tables_.bytes(id));
      zero_.push_back(residence);
    }
    return residence;
  }

  void add_node(int index, bool again) {
    const Node& node = graph_.nodes()[static_cast<size_t>(index)];
    const Phase phase = again ? Phase::backward : node.phase;
    Step step{.node = index, .again = again};
    // An operand may be recomputed by steps before this one: its own operands are listed after theirs.
    const size_t below = gathered_.size();
    for (ValueId id : tables_.in(index)) {
      const int place = operand(id, phase);
      gathered_.push_back(place);
    }
    step.in = list({gathered_.begin() + static_cast<std::ptrdiff_t>(below), gathered_.end()});
    gathered_.resize(below);
    // Residences begin at this step, whose number is known only after its operands have been made.
    step.zero = std::exchange(zero_, {});
    const int at = static_cast<int>(schedule_.steps.size());
    for (int r : step.zero) schedule_.residences[static_cast<size_t>(r)].begin = at;
    const std::span<const ValueId> results = tables_.out(index);
    step.out = {static_cast<int>(schedule_.operands.size()), static_cast<int>(results.size())};
    for (size_t i = 0; i < results.size(); ++i) schedule_.operands.push_back(output(results[i], i, step, again));
    if (const int64_t part = part_elements(index); part > 0) return add_parts(step, part);
    add_step(std::move(step));
  }

  Slice list(std::span<const int> operands) {
    const Slice slice{static_cast<int>(schedule_.operands.size()), static_cast<int>(operands.size())};
    schedule_.operands.insert(schedule_.operands.end(), operands.begin(), operands.end());
    return slice;
  }

  void add_step(Step step) {
    const int at = static_cast<int>(schedule_.steps.size());
    if (const int64_t bytes = costs_[static_cast<size_t>(step.node)].workspace; bytes > 0)
      step.workspace = new_residence(kNone, bytes);
    for (int r : schedule_.operands_of(step))
      if (r >= 0) {
        Residence& residence = schedule_.residences[static_cast<size_t>(r)];
        residence.end = std::max(residence.end, at);
      }
    schedule_.steps.push_back(std::move(step));
  }

  // Of an elementwise node, all of whose results have one shape; of some nodes not all are wanted.
  const Shape& shape_of(const Node& node) const {
    return graph_.value(*std::ranges::find_if(node.out, [](ValueId id) { return id != kNone; })).type.shape;
  }

  // Elements of a part, whole pages of the disk in every codec concerned; 0: the node is run whole.
  int64_t part_elements(int index) const {
    const Node& node = graph_.nodes()[static_cast<size_t>(index)];
    if (!node.op->elementwise) return 0;
    if (std::ranges::none_of(tables_.in(index), [&](ValueId id) { return on_disk(id); })) return 0;
    const Shape& shape = shape_of(node);
    // An operand that is broadcast is read whole by every part.
    const auto whole = [&](ValueId id) { return on_disk(id) && !graph_.value(id).type.shape.same_count(shape); };
    if (std::any_of(node.in.begin(), node.in.end(), whole)) return 0;
    int64_t part = kPartElements;
    for (ValueId id : node.in)
      while (id != kNone && graph_.value(id).type.shape.same_count(shape) &&
             graph_.value(id).type.codec->bytes(part) % kChecksumBlock != 0)
        part *= 2;
    return part < shape.count() ? part : 0;
  }

  void add_parts(const Step& whole, int64_t part) {
    const Node& node = graph_.nodes()[static_cast<size_t>(whole.node)];
    const int64_t total = shape_of(node).count();
    const std::span<const int> listed = schedule_.operands_of(whole);
    const std::vector<int> operands(listed.begin(), listed.end());
    for (int64_t first = 0; first < total; first += part) {
      Step step = whole;
      if (first > 0) {  // what waits on disk has a residence for every part
        step.zero.clear();
        step.in.begin = list(operands).begin;
        step.out.begin = step.in.begin + step.in.count;
      }
      step.first = first;
      step.count = std::min(part, total - first);
      add_step(std::move(step));
    }
  }

  int output(ValueId id, size_t i, const Step& step, bool again) {
    if (id == kNone) return -1;
    if (const ValueId home = persistent_home(id); home != kNone) return persistent_operand(home);
    if (again && dropped(id)) remade_[static_cast<size_t>(id)] = 1;
    // A second result of a node that is recomputed, which was kept, is not written twice: it is written aside.
    for (const InPlace& pair : tables_.aliases(step.node))
      if (pair.destructive && static_cast<size_t>(pair.out) == i) {
        current_[static_cast<size_t>(id)] = schedule_.of(step.in)[static_cast<size_t>(pair.in)];
        return current_[static_cast<size_t>(id)];
      }
    const int residence = new_residence(id, tables_.bytes(id));
    if (!again || dropped(id)) current_[static_cast<size_t>(id)] = residence;
    return residence;
  }

  // The first node of the backward pass that adds to a held gradient finds it cleared.
  void mark_fresh_gradients() {
    std::vector<char> seen(graph_.values().size(), 0);
    for (Step& step : schedule_.steps) {
      if (graph_.nodes()[static_cast<size_t>(step.node)].phase == Phase::update) continue;
      for (int operand : schedule_.of(step.in)) {
        if (operand > -2 || tables_.role(persistent_value(operand)) != Role::gradient) continue;
        if (!std::exchange(seen[static_cast<size_t>(persistent_value(operand))], 1)) step.fresh.push_back(operand);
      }
    }
  }

  // Lets outputs lie over inputs that are read for the last time.
  void share_storage() {
    auto& residences = schedule_.residences;
    for (size_t s = 0; s < schedule_.steps.size(); ++s) {
      const Step& step = schedule_.steps[s];
      const std::span<const int> operands = schedule_.of(step.in), results = schedule_.of(step.out);
      for (const InPlace& pair : tables_.aliases(step.node)) {
        if (pair.destructive) continue;
        const int out = results[static_cast<size_t>(pair.out)], in = operands[static_cast<size_t>(pair.in)];
        if (out < 0 || in < 0 || out == in) continue;
        Residence& o = residences[static_cast<size_t>(out)];
        const Residence& r = residences[static_cast<size_t>(in)];
        const bool others = std::ranges::count(operands, in) > 1;
        if (o.storage >= 0 || r.end != static_cast<int>(s) || r.bytes != o.bytes || others) continue;
        if (o.tier == Tier::disk || r.tier == Tier::disk) continue;  // it may be on its way
        Storage& storage = schedule_.storages[static_cast<size_t>(storage_of(in))];
        if (storage.end != static_cast<int>(s)) continue;
        o.storage = r.storage;
        storage.end = std::max(storage.end, o.end);
      }
      for (int r : results)
        if (r >= 0) storage_of(r);
      for (int r : operands)
        if (r >= 0) storage_of(r);
      if (step.workspace >= 0) storage_of(step.workspace);
    }
  }

  int storage_of(int residence) {
    Residence& r = schedule_.residences[static_cast<size_t>(residence)];
    if (r.storage < 0) {
      r.storage = static_cast<int>(schedule_.storages.size());
      schedule_.storages.push_back({r.begin, r.end, r.bytes, -1, r.tier == Tier::disk});
    }
    return r.storage;
  }

  const Graph& graph_;
  const GraphTables& tables_;
  const std::vector<NodeCost>& costs_;
  const ScheduleOptions& options_;
  std::vector<int> current_;   // residence of each value now
  std::vector<char> remade_;   // by value: the backward pass has made it again
  std::vector<int> gathered_;  // operands of nodes that wait for some of them to be recomputed
  std::vector<int> zero_;
  Schedule schedule_;
};

// Most bytes alive at one step.
void bound(Schedule& schedule) {
  std::vector<int64_t> change(schedule.steps.size() + 1, 0);
  for (const Storage& s : schedule.storages) {
    change[static_cast<size_t>(s.begin)] += s.bytes;
    change[static_cast<size_t>(s.end) + 1] -= s.bytes;
  }
  int64_t alive = 0;
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    alive += change[i];
    schedule.lower_bound = std::max(schedule.lower_bound, alive);
  }
}

}  // namespace

GraphTables::GraphTables(const Graph& graph) {
  values_.reserve(graph.values().size());
  for (const Value& value : graph.values()) {
    const auto id = static_cast<ValueId>(values_.size());
    values_.push_back({value.type.bytes(), persistent(value.role) ? id : kNone, value.role});
  }
  first_id_.reserve(2 * graph.nodes().size() + 1), first_pair_.reserve(graph.nodes().size() + 1);
  for (const Node& node : graph.nodes()) {
    for (const std::vector<ValueId>* ids : {&node.in, &node.out}) {
      first_id_.push_back(ids_.size());
      ids_.insert(ids_.end(), ids->begin(), ids->end());
    }
    first_pair_.push_back(pairs_.size());
    for (const InPlace& pair : thimble::aliases(node)) {
      pairs_.push_back(pair);
      if (!pair.destructive) continue;
      OfValue& out = values_[static_cast<size_t>(node.out[static_cast<size_t>(pair.out)])];
      if (out.owner == kNone) out.owner = owner(node.in[static_cast<size_t>(pair.in)]);
    }
  }
  first_id_.push_back(ids_.size()), first_pair_.push_back(pairs_.size());
}

std::vector<NodeCost> node_costs(const Graph& graph, Multiply multiply, int threads, const Machine& machine) {
  std::vector<NodeCost> costs;
  for (const Node& node : graph.nodes()) {
    const std::vector<Type> in = graph.types(node.in), out = graph.types(node.out);
    // Updates multiply in f32: what they make is kept, and added to weights.
    const Multiply products = node.phase == Phase::update ? Multiply::f32 : multiply;
    costs.push_back({predicted_seconds(machine, products, *node.op, node.op->cost(node.attributes, in, out)),
                     node.op->workspace ? node.op->workspace(node.attributes, in, out, products, threads) : 0});
  }
  return costs;
}

std::vector<int> nodes_between(size_t first, size_t last) {
  std::vector<int> order(last - first);
  std::iota(order.begin(), order.end(), static_cast<int>(first));
  return order;
}

Schedule make_schedule(const Graph& graph, const GraphTables& tables, const std::vector<int>& order,
                       const std::vector<NodeCost>& costs, const ScheduleOptions& options) {
  Schedule schedule = Builder(graph, tables, costs, options).build(order);
  bound(schedule);
  return schedule;
}

Schedule make_schedule(const Graph& graph, const std::vector<int>& order, const std::vector<NodeCost>& costs,
                       const ScheduleOptions& options) {
  return make_schedule(graph, GraphTables(graph), order, costs, options);
}

std::vector<int> turns(const Graph& graph, const Schedule& schedule) {
  std::vector<int> out;
  bool forward = false;
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    const Step& step = schedule.steps[i];
    const Phase phase = graph.nodes()[static_cast<size_t>(step.node)].phase;
    const bool still = phase == Phase::forward && !step.again;
    if (forward && !still && (phase == Phase::backward || step.again)) out.push_back(static_cast<int>(i));
    if (phase != Phase::update) forward = still;
  }
  return out;
}

}  // namespace thimble
