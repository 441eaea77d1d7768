// Values that outlive a run, shared by name between programs: those that live in memory have a place in the persistent
// part of the arena, the others one in the scratch file.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/schedule.h"

namespace thimble {

class Layout {
 public:
  struct Entry {
    Type type;
    Role role;
    Tier tier = Tier::ram;
    int64_t offset = 0;  // in the arena, or in the scratch file
    Initial initial = {};
  };

  // Names of values that live on disk.
  explicit Layout(std::set<std::string> on_disk) : on_disk_(std::move(on_disk)) {}
  Layout() = default;

  // Adds the persistent values of a graph (gradients only when asked). A value that is there already must be of the
  // same type; a parameter may be met again as a weight.
  Result<void> add(const Graph& graph, bool gradients = true);

  const Entry* find(const std::string& name) const;
  // Whether every value of the one has the same place in the other.
  bool same_places(const Layout& other) const;
  const std::map<std::string, Entry>& entries() const { return entries_; }
  bool on_disk(const std::string& name) const { return on_disk_.contains(name); }
  int64_t bytes() const { return bytes_; }            // in the arena; whole pages
  int64_t disk_bytes() const { return disk_bytes_; }  // in the scratch file
  int64_t bytes(Role role, Tier tier = Tier::ram) const;
  int64_t other_bytes() const;  // of bytes(), what is neither weight, gradient nor state: inputs, results, tables

 private:
  std::set<std::string> on_disk_;
  std::map<std::string, Entry> entries_;
  int64_t used_ = 0, bytes_ = 0, disk_bytes_ = 0;
};

}  // namespace thimble
