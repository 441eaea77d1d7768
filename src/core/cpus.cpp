#include "core/cpus.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <thread>

namespace thimble {
namespace {

// Affinity masks of machines with more CPUs than fit are refused by the system: then the mask is made larger.
int cpus_of_mask() {
  for (size_t cpus = 1024; cpus <= size_t{1} << 20; cpus *= 2) {
    const std::unique_ptr<cpu_set_t, decltype([](cpu_set_t* set) { CPU_FREE(set); })> set(CPU_ALLOC(cpus));
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    if (set && sched_getaffinity(0, bytes, set.get()) == 0) return CPU_COUNT_S(bytes, set.get());
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Two numbers of files, or of one; 0 when there is no quota ("max" and -1 are none).
int whole_cpus(std::istream&& quota_from, std::istream* period_from) {
  int64_t quota = 0, period = 0;
  if (!(quota_from >> quota) || !((period_from ? *period_from : quota_from) >> period) || quota <= 0 || period <= 0)
    return 0;
  return static_cast<int>(std::min<int64_t>((quota + period - 1) / period, 1 << 20));
}

int quota_of(const std::string& folder, bool unified) {
  if (unified) return whole_cpus(std::ifstream(folder + "/cpu.max"), nullptr);
  std::ifstream period(folder + "/cpu.cfs_period_us");
  return whole_cpus(std::ifstream(folder + "/cpu.cfs_quota_us"), &period);
}

}  // namespace

int cpu_quota(const ControlGroups& groups) {
  int least = 0;
  each_control_group(groups, "cpu", [&](const std::string& folder, bool unified) {
    const int quota = quota_of(folder, unified);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  });
  return least;
}

int usable_cpus() {
  const int cpus = std::max(1, cpus_of_mask()), quota = cpu_quota({});
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

}  // namespace thimble
