// How many CPUs this process may keep busy.
#pragma once

#include <string>

namespace thimble {

// CPUs that its affinity mask names, but no more than the CPU quota of its control groups pays for (cgroup v2's
// cpu.max, v1's cpu.cfs_quota_us), rounded up: at least 1.
int usable_cpus();

// The quota of the control groups that a /proc/self/cgroup names, and of those above them, in whole CPUs, rounded up;
// 0: none. `mount`: where the hierarchies are mounted, /sys/fs/cgroup.
int cpu_quota(const std::string& cgroup_file, const std::string& mount);

}  // namespace thimble
