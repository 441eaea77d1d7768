#include "plan/profile.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace thimble {
namespace {

constexpr size_t index(Held held) { return static_cast<size_t>(held); }

std::string_view phase_name(const Step& step, const Node& node) {
  if (step.again) return "again";
  return node.phase == Phase::forward ? "forward" : node.phase == Phase::backward ? "backward" : "update";
}

// What a step is called: its operation and the first thing it makes or writes over.
std::string step_name(const Graph& graph, const Step& step) {
  const Node& node = graph.nodes()[static_cast<size_t>(step.node)];
  const auto made = std::find_if(node.out.begin(), node.out.end(), [](ValueId id) { return id != kNone; });
  return fmt::format("{}: {} {}", phase_name(step, node), node.op->name,
                     made == node.out.end() ? "" : graph.value(*made).name);
}

// Adds the transient bytes of a schedule to its points.
class Transient {
 public:
  Transient(const Graph& graph, const Schedule& schedule)
      : graph_(graph), schedule_(schedule), turns_(turns(graph, schedule)) {}

  // A storage counts as what lies in it: of residences that share one, each until the next begins.
  void add(std::span<ProfilePoint> points) const {
    const auto& residences = schedule_.residences;
    std::vector<int> order(residences.size());
    std::iota(order.begin(), order.end(), 0);
    const auto key = [&](int i) {
      return std::pair(residences[static_cast<size_t>(i)].storage, residences[static_cast<size_t>(i)].begin);
    };
    std::sort(order.begin(), order.end(), [&](int a, int b) { return key(a) < key(b); });
    for (size_t i = 0; i < order.size(); ++i) {
      const Residence& r = residences[static_cast<size_t>(order[i])];
      if (r.storage < 0) continue;
      const Storage& storage = schedule_.storages[static_cast<size_t>(r.storage)];
      const bool last = i + 1 == order.size() || key(order[i + 1]).first != r.storage;
      const int end = last ? storage.end : key(order[i + 1]).second - 1;
      for (int s = r.begin; s <= end; ++s) points[static_cast<size_t>(s)].bytes[index(held(r))] += storage.bytes;
    }
  }

 private:
  Held held(const Residence& r) const {
    if (r.value == kNone) return Held::workspace;
    switch (graph_.value(r.value).role) {
      case Role::gradient:
        return Held::gradients;
      case Role::state:
        return Held::states;
      case Role::weight:
      case Role::parameter:
        return Held::weights;
      default:
        break;
    }
    const bool waits = std::ranges::any_of(turns_, [&](int turn) { return r.begin < turn && r.end >= turn; });
    return waits ? Held::kept : Held::working;
  }

  const Graph& graph_;
  const Schedule& schedule_;
  const std::vector<int> turns_;
};

// Of every run of steps that falls on one point, the step that holds most.
std::vector<ProfilePoint> thinned(std::vector<ProfilePoint> all, size_t points) {
  if (all.size() <= points) return all;
  std::vector<ProfilePoint> out;
  for (size_t i = 0; i < points; ++i) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * all.size() / points);
    const auto end = all.begin() + static_cast<std::ptrdiff_t>((i + 1) * all.size() / points);
    out.push_back(*std::max_element(begin, end, [](const auto& a, const auto& b) { return a.total() < b.total(); }));
  }
  return out;
}

}  // namespace

int64_t ProfilePoint::total() const { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

std::vector<ProfilePoint> memory_profile(const TrainingPlan& plan, int64_t runtime_bytes, size_t points) {
  ProfilePoint always;
  const Layout& layout = plan.layout;
  always.bytes[index(Held::runtime)] = runtime_bytes;
  always.bytes[index(Held::weights)] = layout.bytes(Role::weight) + layout.bytes(Role::parameter);
  always.bytes[index(Held::states)] = layout.bytes(Role::state);
  always.bytes[index(Held::gradients)] = layout.bytes(Role::gradient);
  always.bytes[index(Held::inputs)] = layout.other_bytes();
  std::vector<ProfilePoint> all;
  std::vector<std::string> names;
  for (const Schedule* schedule : plan.ordinary_step()) {
    const size_t begin = all.size();
    all.resize(begin + schedule->steps.size(), always);
    for (size_t i = begin; i < all.size(); ++i) {
      all[i].step = static_cast<int>(i);
      names.push_back(step_name(plan.train.graph, schedule->steps[i - begin]));
    }
    Transient(plan.train.graph, *schedule).add(std::span(all).subspan(begin));
  }
  all = thinned(std::move(all), points);
  for (ProfilePoint& point : all) point.name = names[static_cast<size_t>(point.step)];
  return all;
}

}  // namespace thimble
