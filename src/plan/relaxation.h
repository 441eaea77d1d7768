// How fast any plan within a budget could be: the planner's choice with all that makes it hard left out, solved for a
// bound on its seconds.
//
// At the turn from the forward to the backward pass memory holds what lives there always and what each block keeps, for
// every schedule. So of the bytes at that one step alone is asked that they fit; compute and disk are taken to overlap
// perfectly; every value, and every part of it, chooses for itself. With Lagrange's multipliers (Everett 1963) any
//   bound(a, u) = a * compute + (1 - a) * disk + u * (bytes - limit),  each item taking its cheapest way,
// 0 <= a <= 1, u >= 0, lies below the seconds of every plan that fits; the largest of them is returned.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "plan/homes.h"

namespace thimble {

// One way for a part of a step's values to wait: what it adds to a step, and holds at the turn.
struct Way {
  double compute_seconds = 0, disk_seconds = 0;
  int64_t bytes = 0;
};

struct Relaxation {
  double compute_seconds = 0;               // of a step that gives nothing up
  int64_t bytes = 0;                        // that stay in memory whatever is chosen
  std::vector<std::vector<Way>> items;      // each takes one of its ways, or a mixture
  double bound(int64_t limit_bytes) const;  // seconds; without a limit: compute_seconds
};

// What a home costs a block, in one pass.
struct HomeCost {
  double recompute_seconds = 0;
  int64_t kept_bytes = 0;     // waiting for the backward pass, in memory or on disk
  int64_t spilled_bytes = 0;  // of these, on disk
};
// By block, then by place in kHomes.
std::vector<std::array<HomeCost, kHomes.size()>> block_home_costs(const Graph& graph,
                                                                  const std::vector<NodeCost>& costs,
                                                                  const Droppable& droppable, int64_t least_bytes);

}  // namespace thimble
