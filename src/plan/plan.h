// A plan: programs that share one arena, and where every byte of them lies. Training, inference and transforms add to
// it what is theirs.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/pass_log.h"
#include "plan/layout.h"
#include "plan/ledger.h"
#include "plan/schedule.h"

namespace thimble {

// A graph with the order in which its nodes run.
struct Program {
  std::string prefix;  // of its inputs and results, which names it: "eval."
  Graph graph;
  Schedule schedule;
  Multiply multiply = Multiply::f32;
  PassLog passes = {};  // that made the graph
};

struct Plan {
  std::vector<Program> programs;
  Layout layout;                // of what outlives a run of a program
  int64_t transient_bytes = 0;  // of the largest program
  int64_t arena_bytes = 0;
  int64_t scratch_bytes = 0;                  // of the file of the disk tier; 0: there is none
  int64_t scratch_memory = 0;                 // what that takes of memory, outside of the arena
  double seconds = 0;                         // predicted: of a step on average; of the last program
  int64_t read_bytes = 0, written_bytes = 0;  // of the scratch file, likewise
  Ledger ledger;

  // Of the process, without its runtime.
  int64_t bytes() const { return arena_bytes + scratch_memory; }
  const Program* find(std::string_view prefix) const;  // nullptr: there is none

  // Places what the schedules need in the transient part, which has at least `least` bytes, and adds up what the arena
  // and the scratch file take. The layout is complete.
  void place(std::span<Schedule* const> schedules, int64_t least = 0);
};

}  // namespace thimble
