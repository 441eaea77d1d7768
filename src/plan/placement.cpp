// Byte offsets in the arena.
#include <algorithm>
#include <numeric>

#include "core/round.h"
#include "disk/scratch.h"
#include "plan/schedule.h"

namespace thimble {
namespace {

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
  std::vector<size_t> order(schedule.storages.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return schedule.storages[a].bytes > schedule.storages[b].bytes; });
  Placed placed(schedule);
  schedule.peak_bytes = 0;
  for (size_t index : order) {
    Storage& storage = schedule.storages[index];
    const int64_t unit = storage.direct ? kDiskAlignment : 1;
    int64_t offset = 0;
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

}  // namespace thimble
