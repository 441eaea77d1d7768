#include "core/cpus.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "temporary_folder.h"

namespace thimble {
namespace {

// A tree of control groups in a folder.
class Groups {
 public:
  void put(const std::string& path, const std::string& text) {
    const std::filesystem::path file = folder_.file(path);
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  int quota() const { return cpu_quota(folder_.file("self"), folder_.file("cgroup")); }

 private:
  TemporaryFolder folder_;
};

TEST(Cpus, quota_of_the_unified_hierarchy_rounds_up) {
  Groups groups;
  groups.put("self", "0::/system.slice/job\n");
  groups.put("cgroup/system.slice/job/cpu.max", "150000 100000\n");
  EXPECT_EQ(groups.quota(), 2);
}

TEST(Cpus, the_least_quota_on_the_way_up_counts) {
  Groups groups;
  groups.put("self", "0::/a/b\n");
  groups.put("cgroup/a/b/cpu.max", "max 100000\n");
  groups.put("cgroup/a/cpu.max", "300000 100000\n");
  groups.put("cgroup/cpu.max", "800000 100000\n");
  EXPECT_EQ(groups.quota(), 3);
}

TEST(Cpus, a_container_finds_its_quota_at_the_mount) {
  Groups groups;
  groups.put("self", "0::/../../host/path\n");
  groups.put("cgroup/cpu.max", "50000 100000\n");
  EXPECT_EQ(groups.quota(), 1);
}

TEST(Cpus, quota_of_the_first_version) {
  Groups groups;
  groups.put("self", "5:memory:/x\n4:cpu,cpuacct:/x\n");
  groups.put("cgroup/cpu,cpuacct/x/cpu.cfs_quota_us", "400000\n");
  groups.put("cgroup/cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
  groups.put("cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
  groups.put("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(groups.quota(), 4);
}

TEST(Cpus, without_a_quota_there_is_none) {
  Groups groups;
  EXPECT_EQ(groups.quota(), 0);
  groups.put("self", "no colon\n0::/\n");
  groups.put("cgroup/cpu.max", "max 100000\n");
  EXPECT_EQ(groups.quota(), 0);
  groups.put("cgroup/cpu.max", "0 0\n");
  EXPECT_EQ(groups.quota(), 0);
}

TEST(Cpus, affinity_is_followed) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &before)) {
      CPU_SET(cpu, &one);
      break;
    }
  int seen = 0;
  std::thread([&] {  // the mask of this thread alone
    if (sched_setaffinity(0, sizeof one, &one) == 0) seen = usable_cpus();
  })
      .join();
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace thimble
