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
  ControlGroups groups() const { return {folder_.file("self"), folder_.file("cgroup")}; }
  int quota() const { return cpu_quota(groups()); }
  GroupMemory memory() const { return group_memory(groups()); }

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

TEST(GroupMemory, the_least_of_all_groups_counts) {
  Groups groups;
  EXPECT_EQ(groups.memory().limit_bytes, -1);
  groups.put("self", "0::/user.slice/run.scope\n");
  groups.put("cgroup/user.slice/run.scope/memory.max", "500000000\n");
  groups.put("cgroup/user.slice/run.scope/memory.current", "120000000\n");
  groups.put("cgroup/user.slice/run.scope/memory.stat", "anon 90000000\nfile 30000000\ninactive_file 20000000\n");
  groups.put("cgroup/user.slice/memory.max", "max\n");
  groups.put("cgroup/memory.current", "7000000000\n");
  EXPECT_EQ(groups.memory().limit_bytes, 500000000);
  EXPECT_EQ(groups.memory().free_bytes, 400000000);
  groups.put("cgroup/user.slice/memory.max", "800000000\n");
  groups.put("cgroup/user.slice/memory.current", "700000000\n");
  EXPECT_EQ(groups.memory().limit_bytes, 500000000);
  EXPECT_EQ(groups.memory().free_bytes, 100000000) << "a neighbour in the group above has taken the rest";
}

TEST(GroupMemory, of_the_first_version) {
  Groups groups;
  groups.put("self", "9:cpu:/y\n5:memory:/x\n");
  groups.put("cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(groups.memory().limit_bytes, -1);
  groups.put("cgroup/memory/memory.limit_in_bytes", "300000000\n");
  groups.put("cgroup/memory/memory.usage_in_bytes", "100000000\n");
  groups.put("cgroup/memory/memory.stat", "total_inactive_file 0\n");
  EXPECT_EQ(groups.memory().limit_bytes, 300000000);
  EXPECT_EQ(groups.memory().free_bytes, 200000000);
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
