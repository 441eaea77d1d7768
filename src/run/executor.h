// Runs a schedule over the arena. Everything is resolved to addresses when the executor is made; running allocates
// nothing.
#pragma once

#include <functional>
#include <vector>

#include "disk/scratch.h"
#include "plan/layout.h"
#include "plan/schedule.h"
#include "run/save_gate.h"

namespace thimble {

// Where the values of a layout lie, and those that live while a program runs.
struct Places {
  Places(const Layout& layout, std::byte* base, Scratch* scratch = nullptr, SaveGate* gate = nullptr)
      : base(base), transient_offset(layout.bytes()), scratch(scratch), spill_offset(layout.disk_bytes()), gate(gate) {}

  std::byte* base;           // of the arena: persistent values at the layout's offsets
  int64_t transient_offset;  // the others from here on
  Scratch* scratch;          // nullptr: no value waits on disk
  int64_t spill_offset;      // of the activations' area in the scratch file
  SaveGate* gate;            // nullptr: nothing is saved while steps run
};

// Where a pass stands in its step: in the first one gradients begin at zero; what only the update reads is made in the
// last.
struct PassPlace {
  bool first = true, last = true;
};

class Executor {
 public:
  // The graph must outlive the executor.
  Executor(const Graph& graph, const Schedule& schedule, const Layout& layout, const Places& places);

  // What an executor of the schedule takes of the heap, at most.
  static int64_t memory_bytes(const Schedule& schedule);

  // tokens, selected: extents of this run, at most the planned ones; -1: as planned. Errors are the disk's.
  Result<void> run(RunContext& context, int64_t tokens = -1, int64_t selected = -1);

  // One pass of a step.
  Result<void> run_pass(RunContext& context, PassPlace place);

 private:
  struct Bound {
    const Node* node;
    std::span<Operand> in, out;
    std::span<const Extent> extents;  // of in, then of out
    std::span<std::byte> workspace;
    Part part;
    int saved = 0;  // of the gate: what has to be read before this overwrites it
    std::span<const std::span<std::byte>> zero, fresh;
  };
  struct Movement {
    int64_t offset;
    std::span<std::byte> memory;
    bool write, fresh;
    int ticket = -1;
  };
  void run_step(Bound& step, RunContext& context, PassPlace place) noexcept;
  Result<void> move(const TransferEvent& event, bool first);
  Result<void> abandon(Failure failure);

  Scratch* scratch_;
  SaveGate* gate_;
  bool together_ = false;     // threads may go through all steps by themselves
  std::vector<Bound> steps_;  // of spans of the following, which never grow
  std::vector<Operand> operands_;
  std::vector<Extent> extents_;
  std::vector<std::span<std::byte>> cleared_;
  std::vector<Movement> movements_;
  std::vector<TransferEvent> events_;
};

}  // namespace thimble
