// The passes that make a graph, one after another, and what each of them changed.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"

namespace thimble {

// Passes for speed and memory alone: without one the graph computes the same, but for rounding (int8 products of new
// tokens are among the narrow ones). THIMBLE_SKIP_PASSES="narrow products,hoisted updates" leaves some out, to find
// out which pass makes a difference.
inline constexpr std::string_view kHoistedUpdates = "hoisted updates", kNarrowProducts = "narrow products",
                                  kGroupedProducts = "grouped products";
inline constexpr std::string_view kOptionalPasses[] = {kHoistedUpdates, kNarrowProducts, kGroupedProducts};

struct GraphPass {
  std::string name;
  double seconds = 0;
  size_t values = 0;                               // of the graph after it
  std::map<std::string_view, int64_t> operations;  // of the graph after it: nodes by the name of their operation
};

class PassLog {
 public:
  // A pass ends here, and the next one begins. Errors (those of Graph::verify): where every pass is verified, the
  // graph that this one leaves is illegal; the message names the pass.
  Result<void> end(std::string name, const Graph& graph);
  // The same of one of kOptionalPasses, which `change` makes; left out where THIMBLE_SKIP_PASSES names it. Errors also
  // where that names none of them.
  Result<void> optional(std::string_view name, Graph& graph, const std::function<void(Graph&)>& change);

  const std::vector<GraphPass>& passes() const { return passes_; }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<GraphPass> passes_;
  Clock::time_point begun_ = Clock::now();
};

// Whether graphs are verified after every pass, and not only when they are done: in builds for debugging, in tests, and
// where somebody wants to see the passes. Set before any graph is built.
extern bool verify_every_pass;

// A table: what each pass took, and the nodes it added and removed, by operation.
std::string passes_table(const std::vector<GraphPass>& passes);
// The same as a JSON array, on one line.
std::string passes_json(const std::vector<GraphPass>& passes);

}  // namespace thimble
