// Where the activations of a block are between the forward and the backward pass, and what else a plan chooses.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "plan/schedule.h"

namespace thimble {

// What is recomputed before its gradients, and where the rest of what they read waits.
struct Home {
  enum class Recompute : unsigned char {
    nothing,
    cheap,  // what costs no product
    inner,  // all but the block's input
  };
  Recompute recompute;
  Tier rest;              // ram or disk
  std::string_view text;  // "keep only their input", for the ledger
  constexpr bool on_disk() const { return rest == Tier::disk; }
};

// Those that may be the fastest within some budget. What costs no product is recomputed sooner than moved to a disk.
inline constexpr std::array kHomes = {
    Home{Home::Recompute::nothing, Tier::ram, "keep every activation that gradients read"},
    Home{Home::Recompute::cheap, Tier::ram, "recompute what costs no product"},
    Home{Home::Recompute::cheap, Tier::disk, "recompute what costs no product and keep the rest on disk"},
    Home{Home::Recompute::inner, Tier::ram, "keep only their input"},
    Home{Home::Recompute::inner, Tier::disk, "keep only their input, on disk"}};

// The homes of all blocks, as places in kHomes. The first blocks' activations live longest, so that they have the home
// of less memory.
struct BlockHomes {
  size_t deep = 0, shallow = 0;
  int deep_blocks = 0;  // have the home `deep`, the others `shallow`
  auto operator<=>(const BlockHomes&) const = default;

  static BlockHomes all(size_t home) { return {.deep = home, .shallow = home}; }
  size_t of(int block) const { return block < deep_blocks ? deep : shallow; }
  template <class Property>
  bool any(Property&& has) const {
    return has(kHomes[deep]) || has(kHomes[shallow]);
  }
  bool on_disk() const {
    return any([](const Home& home) { return home.on_disk(); });
  }
};

// One of the ways to carry out a graph: all of them give the same bits.
struct Choice {
  BlockHomes blocks;
  size_t on_disk = 0;    // persistent values, of the list of candidates
  size_t eagerness = 0;  // of kEagerness
  auto operator<=>(const Choice&) const = default;
};

// What a graph allows.
struct Droppable {
  std::vector<char> cheap;  // by value: can be recomputed without a matrix product, from what is kept anyway
  std::vector<char> inner;  // by value: not the input of a block
  std::vector<int> block;   // by value; -1: made outside of the blocks
  int blocks = 0;
};
Droppable find_droppable(const Graph& graph);

// By value: what is recomputed, and what waits on disk (of at least `least_bytes`).
std::vector<char> recomputed_values(const Droppable& droppable, const BlockHomes& homes);
std::vector<char> spilled_values(const Graph& graph, const Droppable& droppable, const BlockHomes& homes,
                                 int64_t least_bytes);

}  // namespace thimble
