// Byte offsets in the arena: largest first, each at the lowest place that is free over all its steps.
//
// That looks at all pairs that live together. Of very deep models, activations that are kept for the backward pass are
// too many for it; they all live at the turn between the passes, and the first made are needed last, so that, stacked
// by how long they live, they lie with few gaps. Everything else is then placed above the stack.
#include <algorithm>
#include <numeric>

#include "core/round.h"
#include "disk/scratch.h"
#include "plan/schedule.h"

namespace thimble {
namespace {

constexpr size_t kMany = 20'000;  // storages from which on there is a stack
constexpr size_t kFew = 256;      // that may live long and not be stacked
constexpr int kLong = 48;         // steps that what lies there lives, at least

// Height of the stack over the steps. The stack only grows: what is put on it lies above all that its steps have.
class Stack {
 public:
  explicit Stack(size_t steps) : height_(steps, 0), runs_(steps / kRun + 1) {}

  int64_t height(int begin, int end) const {
    int64_t most = 0;
    for (int step = begin; step <= end;) {
      const Run& run = runs_[static_cast<size_t>(step / kRun)];
      const bool whole = step % kRun == 0 && step + kRun - 1 <= end;
      most = std::max(most, whole ? run.highest : std::max(run.floor, height_[static_cast<size_t>(step)]));
      step += whole ? kRun : 1;
    }
    return most;
  }

  void raise(int begin, int end, int64_t to) {
    for (int step = begin; step <= end;) {
      Run& run = runs_[static_cast<size_t>(step / kRun)];
      const bool whole = step % kRun == 0 && step + kRun - 1 <= end;
      if (whole)
        run.floor = to;
      else
        height_[static_cast<size_t>(step)] = to;
      run.highest = std::max(run.highest, to);
      step += whole ? kRun : 1;
    }
  }

 private:
  static constexpr int kRun = 64;
  struct Run {
    int64_t floor = 0, highest = 0;  // of all its steps, of any
  };
  std::vector<int64_t> height_;
  std::vector<Run> runs_;
};

int steps_of(const Storage& storage) { return storage.end - storage.begin; }

// The step at which most of these live.
int fullest_step(const Schedule& schedule, const std::vector<size_t>& storages) {
  std::vector<int> change(schedule.steps.size() + 1, 0);
  for (size_t i : storages) {
    ++change[static_cast<size_t>(schedule.storages[i].begin)];
    --change[static_cast<size_t>(schedule.storages[i].end) + 1];
  }
  std::partial_sum(change.begin(), change.end(), change.begin());
  return static_cast<int>(std::max_element(change.begin(), change.end()) - change.begin());
}

// Those of `lasting` that live together where most do; they are taken off it.
void stack_up(Schedule& schedule, Stack& stack, std::vector<size_t>& lasting) {
  const int at = fullest_step(schedule, lasting);
  const auto first = std::stable_partition(lasting.begin(), lasting.end(), [&](size_t i) {
    return schedule.storages[i].begin > at || schedule.storages[i].end < at;
  });
  std::stable_sort(first, lasting.end(),
                   [&](size_t a, size_t b) { return steps_of(schedule.storages[a]) > steps_of(schedule.storages[b]); });
  for (auto i = first; i != lasting.end(); ++i) {
    Storage& storage = schedule.storages[*i];
    storage.offset = round_up(stack.height(storage.begin, storage.end), storage.direct ? kDiskAlignment : 1);
    stack.raise(storage.begin, storage.end, storage.offset + storage.bytes);
    schedule.peak_bytes = std::max(schedule.peak_bytes, storage.offset + storage.bytes);
  }
  lasting.erase(first, lasting.end());
}

// What has been placed, found by the time it is alive: steps in runs of kRun, each with the storages that touch it.
class Placed {
 public:
  explicit Placed(const Schedule& schedule)
      : storages_(schedule.storages), runs_(schedule.steps.size() / kRun + 1), stamp_(storages_.size(), 0) {}

  void add(size_t index) {
    const Storage& storage = storages_[index];
    for (int run = storage.begin / kRun; run <= storage.end / kRun; ++run)
      runs_[static_cast<size_t>(run)].push_back(index);
  }

  // Those that are alive together with it, by offset.
  const std::vector<size_t>& beside(size_t index) {
    const Storage& storage = storages_[index];
    found_.clear();
    ++turn_;
    for (int run = storage.begin / kRun; run <= storage.end / kRun; ++run)
      for (size_t other : runs_[static_cast<size_t>(run)]) {
        if (stamp_[other] == turn_) continue;
        stamp_[other] = turn_;
        if (storages_[other].begin <= storage.end && storage.begin <= storages_[other].end) found_.push_back(other);
      }
    std::sort(found_.begin(), found_.end(),
              [&](size_t a, size_t b) { return storages_[a].offset < storages_[b].offset; });
    return found_;
  }

 private:
  static constexpr int kRun = 32;
  const std::vector<Storage>& storages_;
  std::vector<std::vector<size_t>> runs_;
  std::vector<size_t> found_;
  std::vector<int> stamp_;
  int turn_ = 0;
};

}  // namespace

void place(Schedule& schedule) {
  std::vector<size_t> lasting, others;
  schedule.peak_bytes = 0;
  for (size_t i = 0; i < schedule.storages.size(); ++i)
    (steps_of(schedule.storages[i]) >= kLong && schedule.storages.size() >= kMany ? lasting : others).push_back(i);
  Stack stack(schedule.steps.size());
  while (lasting.size() > kFew) stack_up(schedule, stack, lasting);
  others.insert(others.end(), lasting.begin(), lasting.end());
  std::stable_sort(others.begin(), others.end(), [&](size_t a, size_t b) {
    return std::pair(-schedule.storages[a].bytes, a) < std::pair(-schedule.storages[b].bytes, b);
  });
  Placed placed(schedule);
  for (size_t index : others) {
    Storage& storage = schedule.storages[index];
    const int64_t unit = storage.direct ? kDiskAlignment : 1;
    int64_t offset = round_up(stack.height(storage.begin, storage.end), unit);
    for (size_t other_index : placed.beside(index)) {
      const Storage& other = schedule.storages[other_index];
      if (other.offset >= offset + storage.bytes) break;
      offset = std::max(offset, round_up(other.offset + other.bytes, unit));
    }
    storage.offset = offset;
    placed.add(index);
    schedule.peak_bytes = std::max(schedule.peak_bytes, offset + storage.bytes);
  }
}

Result<void> check_placement(const Schedule& schedule) {
  constexpr int64_t kLine = 64;
  const auto wrong = [](size_t storage, const std::string& how) {
    return fail(ErrorCode::corrupt, "placement: storage {} {}", storage, how);
  };
  if (schedule.peak_bytes < schedule.lower_bound)
    return fail(ErrorCode::corrupt, "placement: a peak of {} bytes, of which {} are alive at one step",
                schedule.peak_bytes, schedule.lower_bound);
  for (size_t i = 0; i < schedule.storages.size(); ++i) {
    const Storage& a = schedule.storages[i];
    if (a.offset < 0 || a.offset % kLine != 0 || a.offset + a.bytes > schedule.peak_bytes)
      return wrong(i, fmt::format("has {} bytes at {} of {}", a.bytes, a.offset, schedule.peak_bytes));
    for (size_t j = i + 1; j < schedule.storages.size(); ++j) {
      const Storage& b = schedule.storages[j];
      const bool together = a.begin <= b.end && b.begin <= a.end;
      if (together && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes)
        return wrong(i, fmt::format("lies over {}, which is alive beside it", j));
    }
  }
  return {};
}

}  // namespace thimble
