#include "plan/plan.h"

#include <algorithm>

#include "disk/scratch.h"

namespace thimble {

const Program* Plan::find(std::string_view prefix) const {
  const auto found = std::ranges::find(programs, prefix, &Program::prefix);
  return found == programs.end() ? nullptr : &*found;
}

void Plan::place(std::span<Schedule* const> schedules, int64_t least) {
  int64_t spilled = 0;
  transient_bytes = least;
  for (Schedule* const schedule : schedules) {
    thimble::place(*schedule);
    transient_bytes = std::max(transient_bytes, schedule->peak_bytes);
    spilled = std::max(spilled, schedule->spill_bytes);
  }
  arena_bytes = layout.bytes() + transient_bytes;
  scratch_bytes = layout.disk_bytes() + spilled;
  scratch_memory = scratch_bytes > 0 ? Scratch::memory_bytes(scratch_bytes) : 0;
}

}  // namespace thimble
