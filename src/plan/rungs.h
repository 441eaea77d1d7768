// How the activations of a block may wait for the backward pass.
#pragma once

#include <array>
#include <vector>

#include "plan/training.h"

namespace thimble {

inline constexpr std::array kRungs = {Rung::keep, Rung::cheap, Rung::cheap_spill, Rung::bare, Rung::bare_spill};

constexpr bool spills(Rung rung) { return rung == Rung::cheap_spill || rung == Rung::bare_spill; }

// What a graph allows.
struct Droppable {
  std::vector<char> cheap;  // by value: can be made again without a matrix product, from what is kept anyway
  std::vector<char> inner;  // by value: not the input of a block
  std::vector<int> block;   // by value; -1: made outside of the blocks
  int blocks = 0;
};
Droppable find_droppable(const Graph& graph);

// By value, for the first `deep_blocks` blocks on one rung and the others on another: what is made again, and what
// waits on disk (of at least `least_bytes`).
std::vector<char> remade_values(const Droppable& droppable, Rung deep, Rung shallow, int deep_blocks);
std::vector<char> spilled_values(const Graph& graph, const Droppable& droppable, Rung deep, Rung shallow,
                                 int deep_blocks, int64_t least_bytes);

// "kept activations wait on disk", for the ledger.
const char* rung_text(Rung rung);

}  // namespace thimble
