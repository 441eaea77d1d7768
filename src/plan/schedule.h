// The order of execution of one kind of step, and where every value waits: in memory over an interval of the order, or
// nowhere, to be made again.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "graph/op.h"

namespace thimble {

enum class Tier { ram, recompute, disk, peer };  // disk and peer have no residences yet

// One stay of one value. A value that is made again has two.
struct Residence {
  ValueId value = kNone;   // kNone: workspace of one node
  int begin = 0, end = 0;  // first and last step, inclusive
  int64_t bytes = 0;
  Tier tier = Tier::ram;
  int storage = -1;  // residences of one storage share an offset (in-place)
};

struct Step {
  int node = 0;
  std::vector<int> in, out;  // residences; -1: absent; persistent values have residence -2 - value
  int workspace = -1;        // residence
  std::vector<int> zero;     // residences to be cleared before the node runs
  bool again = false;        // a recomputation
};
constexpr int persistent_operand(ValueId value) { return -2 - value; }
constexpr ValueId persistent_value(int operand) { return -2 - operand; }

struct Storage {
  int begin = 0, end = 0;
  int64_t bytes = 0;
  int64_t offset = -1;  // in the transient part of the arena
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<Residence> residences;
  std::vector<Storage> storages;
  int64_t peak_bytes = 0;   // after placement
  int64_t lower_bound = 0;  // most bytes alive at one step: no placement can need less
  int peak_step = 0;        // where that is
};

struct ScheduleOptions {
  Multiply multiply = Multiply::f32;
  int threads = 1;
  // Activations that are dropped after the forward pass and made again for the backward pass; indexed by value.
  std::vector<char> recompute;
  // Gradients are consumed at once and live in the transient part (no barrier).
  bool transient_gradients = false;
};

// Orders nodes [first, last) of the graph.
Schedule make_schedule(const Graph& graph, size_t first, size_t last, const ScheduleOptions& options);

// Offsets for all storages: largest first, each at the lowest place that is free over its whole interval.
void place(Schedule& schedule);

// Resolves version chains: the persistent value whose storage an operation's result lies over, or kNone.
std::vector<ValueId> storage_owners(const Graph& graph);

}  // namespace thimble
