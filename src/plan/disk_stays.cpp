#include "plan/disk_stays.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <utility>

#include "core/round.h"

namespace thimble {
namespace {

constexpr size_t kMostUnderWay = Scratch::kMostTransfers / 4;  // of each direction

// Steps that use a value, close enough together for it to stay in memory between them.
struct Stay {
  std::vector<int> steps;
  bool written = false;
};

class DiskStays {
 public:
  DiskStays(const Graph& graph, const std::vector<NodeCost>& costs, const ScheduleOptions& options, Schedule& schedule)
      : graph_(graph), options_(options), schedule_(schedule), uses_(graph.values().size()) {
    const std::vector<double> seconds = step_seconds(graph, schedule, costs);
    clock_.resize(seconds.size() + 1, 0);
    std::partial_sum(seconds.begin(), seconds.end(), clock_.begin() + 1);
  }

  void add() {
    find_uses();
    schedule_.spill_offset.assign(graph_.values().size(), -1);
    for (size_t i = 0; i < uses_.size(); ++i)
      if (!uses_[i].empty()) add_value(static_cast<ValueId>(i));
    begin_reads_early();
    finish_writes_late();
    for (const auto& [before, after] : order_) keep_order(before, after);
    for (const Transfer& t : schedule_.transfers) {
      Residence& residence = schedule_.residences[static_cast<size_t>(t.residence)];
      if (t.write)
        residence.end = std::max(residence.end, t.wait - 1);
      else
        residence.begin = std::min(residence.begin, t.issue);
    }
  }

 private:
  const Node& node_of(int step) const {
    return graph_.nodes()[static_cast<size_t>(schedule_.steps[static_cast<size_t>(step)].node)];
  }

  ValueId value_of(int operand) const {
    if (operand == -1) return kNone;
    const ValueId id =
        operand < 0 ? persistent_value(operand) : schedule_.residences[static_cast<size_t>(operand)].value;
    return id != kNone && options_.disk[static_cast<size_t>(id)] ? id : kNone;
  }

  bool contains(const std::vector<int>& operands, ValueId id) const {
    return std::any_of(operands.begin(), operands.end(), [&](int operand) { return value_of(operand) == id; });
  }

  void find_uses() {
    for (int s = 0; s < static_cast<int>(schedule_.steps.size()); ++s) {
      const Step& step = schedule_.steps[static_cast<size_t>(s)];
      for (const std::vector<int>* operands : {&step.in, &step.out})
        for (int operand : *operands)
          if (const ValueId id = value_of(operand); id != kNone) {
            std::vector<int>& uses = uses_[static_cast<size_t>(id)];
            if (uses.empty() || uses.back() != s) uses.push_back(s);
          }
    }
  }

  double disk_seconds(const Transfer& t) const { return options_.disk_speed.seconds(t.bytes, t.write); }

  // Whether the value should leave memory between two steps that use it.
  bool leaves(ValueId id, int from, int to, bool written) const {
    const bool consumed = node_of(from).phase == Phase::update && node_of(to).phase != Phase::update;
    if (graph_.value(id).role == Role::gradient && consumed) return true;  // it begins anew
    if (to - from <= 1) return false;
    const double gap = clock_[static_cast<size_t>(to)] - clock_[static_cast<size_t>(from) + 1];
    const int64_t bytes = graph_.value(id).type.bytes();
    const DiskSpeed& disk = options_.disk_speed;
    return gap > options_.eagerness.patience * (written ? disk.seconds_both(bytes) : disk.seconds(bytes, false));
  }

  std::vector<Stay> stays_of(ValueId id) const {
    std::vector<Stay> stays;
    for (int step : uses_[static_cast<size_t>(id)]) {
      if (stays.empty() || leaves(id, stays.back().steps.back(), step, stays.back().written)) stays.emplace_back();
      stays.back().steps.push_back(step);
      stays.back().written |= contains(schedule_.steps[static_cast<size_t>(step)].out, id);
    }
    return stays;
  }

  void add_value(ValueId id) {
    const std::vector<Stay> stays = stays_of(id);
    const bool outlives = persistent(graph_.value(id).role);
    if (!outlives && stays.size() == 1) return;  // it never leaves
    if (!outlives) {
      schedule_.spill_offset[static_cast<size_t>(id)] = schedule_.spill_bytes;
      schedule_.spill_bytes += round_up(graph_.value(id).type.bytes(), kChecksumBlock);
    }
    std::vector<int> before;
    for (size_t i = 0; i < stays.size(); ++i) {
      const bool kept = outlives || i + 1 < stays.size();
      const size_t first_transfer = schedule_.transfers.size();
      const auto whole = [&](int step) { return schedule_.steps[static_cast<size_t>(step)].count == 0; };
      if (std::any_of(stays[i].steps.begin(), stays[i].steps.end(), whole)) {
        add_stay(id, stays[i].steps, 0, graph_.value(id).type.bytes(), stays[i].written && kept);
      } else {
        std::map<int64_t, std::vector<int>> parts;
        for (int step : stays[i].steps) parts[schedule_.steps[static_cast<size_t>(step)].first].push_back(step);
        for (const auto& [first, steps] : parts)
          add_stay(id, steps, first, part_bytes(id, steps[0]), stays[i].written && kept);
      }
      std::vector<int> reads, writes;
      for (size_t t = first_transfer; t < schedule_.transfers.size(); ++t)
        (schedule_.transfers[t].write ? writes : reads).push_back(static_cast<int>(t));
      if (!before.empty() && !reads.empty()) order_.emplace_back(before, reads);
      if (!writes.empty()) before = std::move(writes);
    }
  }

  int64_t part_bytes(ValueId id, int step) const {
    return graph_.value(id).type.codec->bytes(schedule_.steps[static_cast<size_t>(step)].count);
  }

  void add_stay(ValueId id, const std::vector<int>& steps, int64_t first, int64_t bytes, bool written) {
    const int residence = static_cast<int>(schedule_.residences.size());
    Step& begin = schedule_.steps[static_cast<size_t>(steps.front())];
    const bool reads = contains(begin.in, id), fresh = contains(begin.fresh, id);
    for (int step : steps) {
      Step& s = schedule_.steps[static_cast<size_t>(step)];
      for (std::vector<int>* operands : {&s.in, &s.out, &s.fresh})
        for (int& operand : *operands)
          if (value_of(operand) == id) operand = residence;
    }
    schedule_.residences.push_back({.value = id,
                                    .begin = steps.front(),
                                    .end = steps.back(),
                                    .bytes = round_up(bytes, kDiskAlignment),
                                    .tier = Tier::disk,
                                    .first = first});
    Transfer transfer{.residence = residence,
                      .value = id,
                      .at = graph_.value(id).type.codec->bytes(first),
                      .bytes = round_up(bytes, kDiskAlignment)};
    if (reads && !(fresh && !options_.accumulates)) {
      transfer.issue = transfer.wait = steps.front();
      transfer.fresh = fresh;
      schedule_.transfers.push_back(transfer);
    }
    if (written) {
      transfer.issue = transfer.wait = steps.back() + 1;
      transfer.write = true;
      transfer.fresh = false;
      schedule_.transfers.push_back(transfer);
    }
  }

  // Transfers of one direction by the time they are needed, or done with.
  std::vector<Transfer*> sorted(bool write) {
    std::vector<Transfer*> out;
    for (Transfer& t : schedule_.transfers)
      if (t.write == write) out.push_back(&t);
    std::stable_sort(out.begin(), out.end(), [](const Transfer* a, const Transfer* b) { return a->issue < b->issue; });
    return out;
  }

  // Last boundary at or before a time.
  int boundary_before(double time) const {
    const auto after = std::upper_bound(clock_.begin(), clock_.end(), time);
    return std::max(0, static_cast<int>(after - clock_.begin()) - 1);
  }

  // Backwards: a read must be begun when the one after it would otherwise come too late.
  void begin_reads_early() {
    const std::vector<Transfer*> reads = sorted(false), writes = sorted(true);
    double latest = std::numeric_limits<double>::infinity();
    size_t write = writes.size();
    std::vector<int> wanted(reads.size());
    for (size_t i = reads.size(); i-- > 0;) {
      for (; write > 0 && writes[write - 1]->issue > reads[i]->wait; --write)
        latest -= disk_seconds(*writes[write - 1]);
      latest = std::min(latest, clock_[static_cast<size_t>(reads[i]->wait)]) - 1.25 * disk_seconds(*reads[i]);
      wanted[i] = std::min(reads[i]->wait, boundary_before(latest));
    }
    int64_t under_way = 0;
    for (size_t i = 0, oldest = 0; i < reads.size(); ++i) {
      under_way += reads[i]->bytes;
      while (oldest < i && (under_way > options_.eagerness.in_flight || i - oldest >= kMostUnderWay))
        under_way -= reads[oldest++]->bytes;
      const int earliest = oldest > 0 ? reads[oldest - 1]->wait : 0;
      reads[i]->issue = std::min(reads[i]->wait, std::max(wanted[i], earliest));
    }
  }

  void finish_writes_late() {
    const std::vector<Transfer*> writes = sorted(true);
    const int end = static_cast<int>(schedule_.steps.size());
    double done = 0;
    for (Transfer* t : writes) {
      done = std::max(done, clock_[static_cast<size_t>(t->issue)]) + disk_seconds(*t);
      const auto after = std::lower_bound(clock_.begin(), clock_.end(), done);
      t->wait = std::min(end, std::max(t->issue + 1, static_cast<int>(after - clock_.begin())));
    }
    int64_t under_way = 0;
    size_t newest = writes.size();
    for (size_t i = writes.size(); i-- > 0;) {
      under_way += writes[i]->bytes;
      while (newest > i + 1 && (under_way > options_.eagerness.in_flight || newest - i > kMostUnderWay))
        under_way -= writes[--newest]->bytes;
      const int latest = newest < writes.size() ? writes[newest]->issue : end;
      writes[i]->wait = std::min(end, std::max(writes[i]->issue + 1, std::min(writes[i]->wait, latest)));
    }
  }

  // What is written is on disk before it is read again.
  void keep_order(const std::vector<int>& writes, const std::vector<int>& reads) {
    int written = 0, wanted = std::numeric_limits<int>::max(), released = 0, needed = wanted;
    for (int w : writes) {
      written = std::max(written, schedule_.transfers[static_cast<size_t>(w)].wait);
      released = std::max(released, schedule_.transfers[static_cast<size_t>(w)].issue);
    }
    for (int r : reads) {
      wanted = std::min(wanted, schedule_.transfers[static_cast<size_t>(r)].issue);
      needed = std::min(needed, schedule_.transfers[static_cast<size_t>(r)].wait);
    }
    if (written <= wanted) return;
    const int middle = std::clamp((written + wanted) / 2, std::min(released + 1, needed), needed);
    for (int w : writes) {
      Transfer& t = schedule_.transfers[static_cast<size_t>(w)];
      t.wait = std::min(t.wait, middle);
    }
    for (int r : reads) {
      Transfer& t = schedule_.transfers[static_cast<size_t>(r)];
      t.issue = std::max(t.issue, middle);
    }
  }

  const Graph& graph_;
  const ScheduleOptions& options_;
  Schedule& schedule_;
  std::vector<std::vector<int>> uses_;                                // by value: steps
  std::vector<double> clock_;                                         // compute seconds before each step
  std::vector<std::pair<std::vector<int>, std::vector<int>>> order_;  // writes, then reads of the same value
};

}  // namespace

void add_disk_stays(const Graph& graph, const std::vector<NodeCost>& costs, const ScheduleOptions& options,
                    Schedule& schedule) {
  DiskStays(graph, costs, options, schedule).add();
}

std::vector<TransferEvent> transfer_events(const Schedule& schedule) {
  std::vector<std::pair<int, TransferEvent>> keyed;  // at one boundary: writes that end, begins, reads that end
  const int end = static_cast<int>(schedule.steps.size());
  for (size_t i = 0; i < schedule.transfers.size(); ++i) {
    const Transfer& t = schedule.transfers[i];
    const int index = static_cast<int>(i);
    keyed.push_back({4 * t.issue + (t.write ? 1 : 2), {t.issue, true, index}});
    keyed.push_back({4 * t.wait + (t.write && t.wait < end ? 0 : 3), {t.wait, false, index}});
  }
  std::stable_sort(keyed.begin(), keyed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<TransferEvent> events;
  for (const auto& [key, event] : keyed) events.push_back(event);
  return events;
}

std::vector<double> step_seconds(const Graph& graph, const Schedule& schedule, const std::vector<NodeCost>& costs) {
  std::vector<double> seconds;
  for (const Step& step : schedule.steps) {
    const Node& node = graph.nodes()[static_cast<size_t>(step.node)];
    const double part =
        step.count ? static_cast<double>(step.count) / static_cast<double>(graph.value(node.in[0]).type.shape.count())
                   : 1;
    seconds.push_back(part * costs[static_cast<size_t>(step.node)].seconds);
  }
  return seconds;
}

Duration simulate(const Schedule& schedule, const std::vector<double>& step_seconds, const DiskSpeed& speed,
                  bool first) {
  Duration duration;
  std::vector<double> done(schedule.transfers.size(), 0);
  double now = 0, disk = 0;
  size_t next = 0;
  const std::vector<TransferEvent> events = transfer_events(schedule);
  for (int at = 0; at <= static_cast<int>(step_seconds.size()); ++at) {
    for (; next < events.size() && events[next].at == at; ++next) {
      const auto index = static_cast<size_t>(events[next].transfer);
      const Transfer& t = schedule.transfers[index];
      if (t.fresh && first) continue;
      if (!events[next].begin) {
        now = std::max(now, done[index]);
        continue;
      }
      (t.write ? duration.written : duration.read) += t.bytes;
      disk = std::max(disk, now) + speed.seconds(t.bytes, t.write);
      done[index] = disk;
    }
    if (at == static_cast<int>(step_seconds.size())) break;
    now += step_seconds[static_cast<size_t>(at)];
  }
  duration.seconds = now;
  return duration;
}

}  // namespace thimble
