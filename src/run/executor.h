// Runs a schedule over the arena. Everything is resolved to addresses when the executor is made; running allocates
// nothing.
#pragma once

#include <functional>
#include <vector>

#include "plan/layout.h"
#include "plan/schedule.h"

namespace thimble {

class Executor {
 public:
  // base: the arena; persistent values at layout's offsets, transient ones from transient_offset on. The graph must
  // outlive the executor.
  Executor(const Graph& graph, const Schedule& schedule, const Layout& layout, std::byte* base,
           int64_t transient_offset);

  // tokens, selected: extents of this run, at most the planned ones; -1: as planned.
  void run(RunContext& context, int64_t tokens = -1, int64_t selected = -1) noexcept;

 private:
  struct Bound {
    const Node* node;
    std::vector<Operand> in, out;
    std::vector<Extent> in_extent, out_extent;
    std::span<std::byte> workspace;
    std::vector<std::span<std::byte>> zero;
  };
  std::vector<Bound> steps_;
};

}  // namespace thimble
