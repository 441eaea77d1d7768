// The control groups that this process is in, and what they let it have.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace thimble {

// Where the process's groups are named, and where the hierarchies are mounted.
struct ControlGroups {
  std::string named = "/proc/self/cgroup", mount = "/sys/fs/cgroup";
};

// Folders of the groups of a controller ("cpu", "memory"), each before those above it. `unified`: of version 2.
void each_control_group(const ControlGroups& groups, const std::string& controller,
                        const std::function<void(const std::string& folder, bool unified)>& visit);

struct GroupMemory {
  int64_t limit_bytes = -1;  // the least of all groups; -1: there is none
  int64_t free_bytes = -1;   // what the fullest of them leaves, cached files that would make room not counted as used
};
GroupMemory group_memory(const ControlGroups& groups = {});

}  // namespace thimble
