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
  std::span<const int> steps;
  bool written = false;
};

class DiskStays {
 public:
  DiskStays(const Graph& graph, const GraphTables& tables, const std::vector<NodeCost>& costs,
            const ScheduleOptions& options, Schedule& schedule)
      : graph_(graph),
        tables_(tables),
        options_(options),
        schedule_(schedule),
        first_use_(graph.values().size() + 1, 0) {
    const std::vector<double> seconds = step_seconds(graph, schedule, costs);
    clock_.resize(seconds.size() + 1, 0);
    std::partial_sum(seconds.begin(), seconds.end(), clock_.begin() + 1);
  }

  void add() {
    find_uses();
    schedule_.spill_offset.assign(graph_.values().size(), -1);
    for (size_t i = 0; i + 1 < first_use_.size(); ++i) {
      const std::span uses = std::span<const int>(uses_).subspan(first_use_[i], first_use_[i + 1] - first_use_[i]);
      if (!uses.empty()) add_value(static_cast<ValueId>(i), uses);
    }
    begin_reads_early();
    finish_writes_late();
    for (const auto& [before, after] : order_) keep_order(transfers(before), transfers(after));
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

  bool contains(std::span<const int> operands, ValueId id) const {
    return std::any_of(operands.begin(), operands.end(), [&](int operand) { return value_of(operand) == id; });
  }

  // Counted first, then listed, a value after another.
  void find_uses() {
    std::vector<int> last(first_use_.size(), -1);
    const auto for_each_use = [&](auto see) {
      for (int s = 0; s < static_cast<int>(schedule_.steps.size()); ++s)
        for (int operand : schedule_.operands_of(schedule_.steps[static_cast<size_t>(s)]))
          if (const ValueId id = value_of(operand); id != kNone && std::exchange(last[static_cast<size_t>(id)], s) != s)
            see(static_cast<size_t>(id), s);
    };
    for_each_use([&](size_t id, int) { ++first_use_[id + 1]; });
    std::partial_sum(first_use_.begin(), first_use_.end(), first_use_.begin());
    uses_.resize(first_use_.back());
    std::vector<size_t> next(first_use_.begin(), first_use_.end() - 1);
    std::ranges::fill(last, -1);
    for_each_use([&](size_t id, int step) { uses_[next[id]++] = step; });
  }

  double disk_seconds(const Transfer& t) const { return options_.disk_speed.seconds(t.bytes, t.write); }

  // Whether the value should leave memory between two steps that use it.
  bool leaves(ValueId id, int from, int to, bool written) const {
    const bool consumed = node_of(from).phase == Phase::update && node_of(to).phase != Phase::update;
    if (tables_.role(id) == Role::gradient && consumed) return true;  // it begins anew
    if (to - from <= 1) return false;
    const double gap = clock_[static_cast<size_t>(to)] - clock_[static_cast<size_t>(from) + 1];
    const int64_t bytes = tables_.bytes(id);
    const DiskSpeed& disk = options_.disk_speed;
    return gap > options_.eagerness.patience * (written ? disk.seconds_both(bytes) : disk.seconds(bytes, false));
  }

  void find_stays(ValueId id, std::span<const int> uses) {
    stays_.clear();
    for (size_t i = 0; i < uses.size(); ++i) {
      if (i == 0 || leaves(id, uses[i - 1], uses[i], stays_.back().written)) stays_.push_back({uses.subspan(i, 0)});
      Stay& stay = stays_.back();
      stay.steps = {stay.steps.data(), stay.steps.size() + 1};
      stay.written |= contains(schedule_.of(schedule_.steps[static_cast<size_t>(uses[i])].out), id);
    }
  }

  void add_value(ValueId id, std::span<const int> uses) {
    find_stays(id, uses);
    const bool outlives = persistent(tables_.role(id));
    if (!outlives && stays_.size() == 1) return;  // it never leaves
    if (!outlives) {
      schedule_.spill_offset[static_cast<size_t>(id)] = schedule_.spill_bytes;
      schedule_.spill_bytes += round_up(tables_.bytes(id), kChecksumBlock);
    }
    Slice before;  // transfers of the last stay that writes
    for (size_t i = 0; i < stays_.size(); ++i) {
      const Stay& stay = stays_[i];
      const bool written = stay.written && (outlives || i + 1 < stays_.size());
      const auto first = static_cast<int>(schedule_.transfers.size());
      const auto whole = [&](int step) { return schedule_.steps[static_cast<size_t>(step)].count == 0; };
      if (std::ranges::any_of(stay.steps, whole)) {
        add_stay(id, stay.steps, 0, tables_.bytes(id), written);
      } else {
        std::map<int64_t, std::vector<int>> parts;
        for (int step : stay.steps) parts[schedule_.steps[static_cast<size_t>(step)].first].push_back(step);
        for (const auto& [at, steps] : parts) add_stay(id, steps, at, part_bytes(id, steps[0]), written);
      }
      const Slice added{first, static_cast<int>(schedule_.transfers.size()) - first};
      const auto some = [&](bool write) {
        return std::ranges::any_of(transfers(added), [&](const Transfer& t) { return t.write == write; });
      };
      if (before.count > 0 && some(false)) order_.emplace_back(before, added);
      if (some(true)) before = added;
    }
  }

  std::span<Transfer> transfers(Slice slice) {
    return std::span(schedule_.transfers).subspan(static_cast<size_t>(slice.begin), static_cast<size_t>(slice.count));
  }

  int64_t part_bytes(ValueId id, int step) const {
    return graph_.value(id).type.codec->bytes(schedule_.steps[static_cast<size_t>(step)].count);
  }

  void add_stay(ValueId id, std::span<const int> steps, int64_t first, int64_t bytes, bool written) {
    const int residence = static_cast<int>(schedule_.residences.size());
    Step& begin = schedule_.steps[static_cast<size_t>(steps.front())];
    const bool reads = contains(schedule_.of(begin.in), id), fresh = contains(begin.fresh, id);
    for (int step : steps) {
      Step& s = schedule_.steps[static_cast<size_t>(step)];
      for (const std::span<int> operands : {schedule_.operands_of(s), std::span(s.fresh)})
        for (int& operand : operands)
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

  // What the first ones write is on disk before the others read it.
  void keep_order(std::span<Transfer> first, std::span<Transfer> then) {
    int written = 0, wanted = std::numeric_limits<int>::max(), released = 0, needed = wanted;
    for (const Transfer& t : first)
      if (t.write) written = std::max(written, t.wait), released = std::max(released, t.issue);
    for (const Transfer& t : then)
      if (!t.write) wanted = std::min(wanted, t.issue), needed = std::min(needed, t.wait);
    if (written <= wanted) return;
    const int middle = std::clamp((written + wanted) / 2, std::min(released + 1, needed), needed);
    for (Transfer& t : first)
      if (t.write) t.wait = std::min(t.wait, middle);
    for (Transfer& t : then)
      if (!t.write) t.issue = std::max(t.issue, middle);
  }

  const Graph& graph_;
  const GraphTables& tables_;
  const ScheduleOptions& options_;
  Schedule& schedule_;
  std::vector<int> uses_;                       // steps, of one value after another
  std::vector<size_t> first_use_;               // by value: its first in uses_; and the end
  std::vector<Stay> stays_;                     // of one value
  std::vector<double> clock_;                   // compute seconds before each step
  std::vector<std::pair<Slice, Slice>> order_;  // transfers that write, then those of the same value that read
};

}  // namespace

void add_disk_stays(const Graph& graph, const GraphTables& tables, const std::vector<NodeCost>& costs,
                    const ScheduleOptions& options, Schedule& schedule) {
  DiskStays(graph, tables, costs, options, schedule).add();
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
  events.reserve(keyed.size());
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
