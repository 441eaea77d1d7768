// The order of execution of one kind of step, and where every value waits: in memory over an interval of the order, on
// disk between two such intervals, or nowhere, to be recomputed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/op.h"
#include "plan/machine.h"

namespace thimble {

enum class Tier { ram, recompute, disk, peer };  // peer has no residences yet

// A live range of a value in memory. A value that is recomputed, or that waits on disk, has several.
struct Residence {
  ValueId value = kNone;   // kNone: workspace of one node
  int begin = 0, end = 0;  // first and last step, inclusive
  int64_t bytes = 0;
  Tier tier = Tier::ram;  // disk: it comes from there, goes there, or both
  int64_t first = 0;      // first element, of a part of a value
  int storage = -1;       // residences of one storage share an offset (in-place)
};

// A part of a list of a schedule: [begin, begin + count).
struct Slice {
  int begin = 0, count = 0;
};

struct Step {
  int node = 0;
  Slice in, out;           // of Schedule::operands
  int workspace = -1;      // residence
  std::vector<int> zero;   // residences to be cleared before the node runs
  std::vector<int> fresh;  // gradients (operands as above) to be cleared in the first pass of a step
  bool again = false;      // a recomputation
  int64_t first = 0;       // of an elementwise node that is run part by part: elements [first, first + count)
  int64_t count = 0;       // 0: the whole
};
constexpr int persistent_operand(ValueId value) { return -2 - value; }
constexpr ValueId persistent_value(int operand) { return -2 - operand; }

// One movement between memory and disk. It is begun before step `issue` and must be finished before step `wait`.
struct Transfer {
  int residence = -1;
  ValueId value = kNone;
  int64_t at = 0;     // bytes from the value's first
  int64_t bytes = 0;  // whole pages of the disk
  int issue = 0, wait = 0;
  bool write = false;
  bool fresh = false;  // a gradient: left out in the first pass of a step
};

struct Storage {
  int begin = 0, end = 0;
  int64_t bytes = 0;
  int64_t offset = -1;  // in the transient part of the arena
  bool direct = false;  // on pages of its own, for direct transfers
};

struct Schedule {
  std::vector<Step> steps;
  // Of all steps: residences; -1: absent; persistent values in memory have residence -2 - value.
  std::vector<int> operands;
  std::vector<Residence> residences;
  std::vector<Storage> storages;
  std::vector<Transfer> transfers;
  std::vector<int64_t> spill_offset;  // by value: where a kept activation waits on disk, from the activations' area on
  int64_t spill_bytes = 0;            // of that area
  int64_t peak_bytes = 0;             // after placement
  int64_t lower_bound = 0;            // most bytes alive at one step: no placement can need less

  std::span<const int> of(Slice slice) const {
    return std::span(operands).subspan(static_cast<size_t>(slice.begin), static_cast<size_t>(slice.count));
  }
  std::span<int> of(Slice slice) {
    return std::span(operands).subspan(static_cast<size_t>(slice.begin), static_cast<size_t>(slice.count));
  }
  // In the order of the operation: operands, then results.
  std::span<const int> operands_of(const Step& step) const {
    return of({step.in.begin, step.in.count + step.out.count});
  }
  std::span<int> operands_of(const Step& step) { return of({step.in.begin, step.in.count + step.out.count}); }
};

// What a node takes, in time (by the machine's measured speeds) and in workspace.
struct NodeCost {
  double seconds = 0;
  int64_t workspace = 0;
};
std::vector<NodeCost> node_costs(const Graph& graph, Multiply multiply, int threads, const Machine& machine);

struct ScheduleOptions {
  // Activations that are dropped after the forward pass and recomputed for the backward pass; indexed by value.
  std::vector<char> recompute = {};
  // Values that wait on disk while they are not used: persistent ones, and activations kept for the backward pass.
  std::vector<char> disk = {};
  DiskSpeed disk_speed = {};
  // How eagerly memory is given up for the disk.
  struct Eagerness {
    int64_t in_flight = 32 << 20;  // bytes that may be on their way from disk, and as many to it, before they must
    double patience = 2;           // a value stays between uses less than so many times its transfers apart
  } eagerness = {};
  // Gradients are consumed at once and live in the transient part (no barrier).
  bool transient_gradients = false;
  // A step has several passes, that add to the gradients one after another.
  bool accumulates = false;
};

using Eagerness = ScheduleOptions::Eagerness;
inline constexpr Eagerness kEagerness[] = {{32 << 20, 2}, {8 << 20, 1}, {1 << 20, 0}, {0, 0}};
inline constexpr size_t kLeanest = std::size(kEagerness) - 1;

// What all schedules of a graph ask of its nodes and values, found once and side by side: of deep models there are
// hundreds of thousands of them, and hundreds of schedules.
class GraphTables {
 public:
  explicit GraphTables(const Graph& graph);
  std::span<const ValueId> in(int node) const { return of(ids_, first_id_, 2 * static_cast<size_t>(node)); }
  std::span<const ValueId> out(int node) const { return of(ids_, first_id_, 2 * static_cast<size_t>(node) + 1); }
  std::span<const InPlace> aliases(int node) const { return of(pairs_, first_pair_, static_cast<size_t>(node)); }
  // The persistent value whose storage a value lies in, by itself or by operations in place; or kNone.
  ValueId owner(ValueId value) const { return values_[static_cast<size_t>(value)].owner; }
  int64_t bytes(ValueId value) const { return values_[static_cast<size_t>(value)].bytes; }
  Role role(ValueId value) const { return values_[static_cast<size_t>(value)].role; }

 private:
  template <class T>
  static std::span<const T> of(const std::vector<T>& all, const std::vector<size_t>& first, size_t i) {
    return std::span(all).subspan(first[i], first[i + 1] - first[i]);
  }
  struct OfValue {
    int64_t bytes = 0;
    ValueId owner = kNone;
    Role role = Role::activation;
  };
  std::vector<ValueId> ids_;
  std::vector<size_t> first_id_;  // by node: of its operands, then of its results; and the end
  std::vector<InPlace> pairs_;
  std::vector<size_t> first_pair_;  // by node, and the end
  std::vector<OfValue> values_;
};

// The nodes in this order; costs by node.
Schedule make_schedule(const Graph& graph, const GraphTables& tables, const std::vector<int>& order,
                       const std::vector<NodeCost>& costs, const ScheduleOptions& options = {});
Schedule make_schedule(const Graph& graph, const std::vector<int>& order, const std::vector<NodeCost>& costs,
                       const ScheduleOptions& options = {});
std::vector<int> nodes_between(size_t first, size_t last);

// Offsets for all storages: largest first, each at the lowest place that is free over its whole interval.
void place(Schedule& schedule);
// That values which are alive together lie apart, on the cache's lines and below the peak. Looks at every two.
Result<void> check_placement(const Schedule& schedule);

// What happens between steps, in order: before step `at`, a transfer is begun or waited for.
struct TransferEvent {
  int at = 0;
  bool begin = false;
  int transfer = 0;
};
std::vector<TransferEvent> transfer_events(const Schedule& schedule);

struct Duration {
  double seconds = 0;             // compute, and what it waits for the disk
  int64_t read = 0, written = 0;  // bytes
};
// Plays the schedule: compute in order, transfers one after another beside it. first: the first pass of a step.
Duration simulate(const Schedule& schedule, const std::vector<double>& step_seconds, const DiskSpeed& disk, bool first);
std::vector<double> step_seconds(const Graph& graph, const Schedule& schedule, const std::vector<NodeCost>& costs);

// Steps at which a backward pass begins behind a forward pass: one, or one for every module of a model that learns in
// modules.
std::vector<int> turns(const Graph& graph, const Schedule& schedule);

}  // namespace thimble
