#include "core/cpus.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <memory>
#include <sstream>
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

bool names(const std::string& list, const std::string& word) {
  std::istringstream words(list);
  for (std::string each; std::getline(words, each, ',');)
    if (each == word) return true;
  return false;
}

}  // namespace

// Lines are "number:controllers:path"; of the unified hierarchy controllers are empty.
int cpu_quota(const std::string& cgroup_file, const std::string& mount) {
  int least = 0;
  std::ifstream file(cgroup_file);
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !names(controllers, "cpu")) continue;
    const std::string root = mount + (controllers.empty() ? "" : "/" + controllers);
    // In a container the path is often one of the host's, and what counts is at the mount itself: looked at last.
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      const int quota = quota_of(root + (path == "/" ? "" : path), controllers.empty());
      if (quota > 0 && (least == 0 || quota < least)) least = quota;
      if (path.empty() || path.find('/') == std::string::npos) break;
    }
  }
  return least;
}

int usable_cpus() {
  const int cpus = std::max(1, cpus_of_mask()), quota = cpu_quota("/proc/self/cgroup", "/sys/fs/cgroup");
  return quota > 0 ? std::min(cpus, quota) : cpus;
}

}  // namespace thimble
