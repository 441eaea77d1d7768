#include "plan/relaxation.h"

#include <algorithm>
#include <utility>

namespace thimble {
namespace {

constexpr int kSteps = 30;  // of each search: half a millionth of the range is left
constexpr double kGolden = 0.6180339887498949;

// Largest value of a concave function over [low, high], by golden sections. Any value of it would be a bound.
template <class Function>
double maximum(double low, double high, Function f) {
  double best = std::max(f(low), f(high));
  double left = high - kGolden * (high - low), right = low + kGolden * (high - low);
  double at_left = f(left), at_right = f(right);
  for (int i = 0; i < kSteps; ++i) {
    best = std::max({best, at_left, at_right});
    if (at_left < at_right) {
      low = std::exchange(left, right), at_left = at_right;
      at_right = f(right = low + kGolden * (high - low));
    } else {
      high = std::exchange(right, left), at_right = at_left;
      at_left = f(left = high - kGolden * (high - low));
    }
  }
  return best;
}

double cheapest(const std::vector<Way>& ways, double a, double u) {
  double least = std::numeric_limits<double>::infinity();
  for (const Way& way : ways)
    least = std::min(least, a * way.compute_seconds + (1 - a) * way.disk_seconds + u * static_cast<double>(way.bytes));
  return least;
}

// Seconds a byte from which on every item takes its smallest way, in either coordinate.
double steepest(const std::vector<std::vector<Way>>& items) {
  double most = 0;
  for (const auto& ways : items)
    for (const Way& low : ways)
      for (const Way& high : ways)
        if (low.bytes < high.bytes)
          most = std::max(most, (low.compute_seconds + low.disk_seconds) / static_cast<double>(high.bytes - low.bytes));
  return most;
}

// What is computed again for the backward pass, by block, when these values are dropped: as the schedule does it.
class Recomputed {
 public:
  Recomputed(const Graph& graph, const std::vector<NodeCost>& costs, std::vector<char> dropped, int blocks)
      : graph_(graph), costs_(costs), dropped_(std::move(dropped)), seconds_(static_cast<size_t>(blocks), 0) {}

  std::vector<double> seconds() {
    for (const Node& node : graph_.nodes())
      if (node.phase == Phase::backward)
        for (ValueId id : node.in) need(id);
    return std::move(seconds_);
  }

 private:
  void need(ValueId id) {
    if (id == kNone || !dropped_[static_cast<size_t>(id)] || graph_.producer(id) < 0) return;
    const auto producer = static_cast<size_t>(graph_.producer(id));
    const Node& node = graph_.nodes()[producer];
    dropped_[static_cast<size_t>(id)] = 0;
    for (ValueId in : node.in) need(in);
    for (ValueId out : node.out)
      if (out != kNone) dropped_[static_cast<size_t>(out)] = 0;
    seconds_[static_cast<size_t>(node.block)] += costs_[producer].seconds;
  }

  const Graph& graph_;
  const std::vector<NodeCost>& costs_;
  std::vector<char> dropped_;
  std::vector<double> seconds_;
};

std::vector<char> used_backward(const Graph& graph) {
  std::vector<char> used(graph.values().size(), 0);
  for (const Node& node : graph.nodes())
    if (node.phase == Phase::backward)
      for (ValueId id : node.in)
        if (id != kNone) used[static_cast<size_t>(id)] = 1;
  return used;
}

}  // namespace

double Relaxation::bound(int64_t limit_bytes) const {
  if (limit_bytes <= 0) return compute_seconds;
  const double steep = steepest(items);
  return maximum(0, 1, [&](double a) {
    return maximum(0, steep, [&](double u) {
      double sum = a * compute_seconds + u * static_cast<double>(bytes - limit_bytes);
      for (const auto& ways : items) sum += cheapest(ways, a, u);
      return sum;
    });
  });
}

std::vector<std::array<HomeCost, kHomes.size()>> block_home_costs(const Graph& graph,
                                                                  const std::vector<NodeCost>& costs,
                                                                  const Droppable& droppable, int64_t least_bytes) {
  std::vector<std::array<HomeCost, kHomes.size()>> out(static_cast<size_t>(droppable.blocks));
  const std::vector<char> used = used_backward(graph);
  for (size_t h = 0; h < kHomes.size(); ++h) {
    const std::vector<char> recomputed = recomputed_values(droppable, BlockHomes::all(h));
    const std::vector<char> spilled = spilled_values(graph, droppable, BlockHomes::all(h), least_bytes);
    const std::vector<double> seconds = Recomputed(graph, costs, recomputed, droppable.blocks).seconds();
    for (size_t b = 0; b < out.size(); ++b) out[b][h].recompute_seconds = seconds[b];
    for (size_t i = 0; i < used.size(); ++i) {
      if (droppable.block[i] < 0 || !used[i] || recomputed[i]) continue;
      HomeCost& cost = out[static_cast<size_t>(droppable.block[i])][h];
      cost.kept_bytes += graph.values()[i].type.bytes();
      if (spilled[i]) cost.spilled_bytes += graph.values()[i].type.bytes();
    }
  }
  return out;
}

}  // namespace thimble
