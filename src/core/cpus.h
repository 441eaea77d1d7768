// How many CPUs this process may keep busy.
#pragma once

#include "core/control_groups.h"

namespace thimble {

// CPUs that its affinity mask names, but no more than the CPU quota of its control groups pays for (cgroup v2's
// cpu.max, v1's cpu.cfs_quota_us), rounded up: at least 1.
int usable_cpus();

// The quota of the control groups, in whole CPUs, rounded up; 0: none.
int cpu_quota(const ControlGroups& groups);

}  // namespace thimble
