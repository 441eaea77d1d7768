// The persistent part of the arena: values that outlive a run, shared by name between programs.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace thimble {

class Layout {
 public:
  struct Entry {
    Type type;
    Role role;
    int64_t offset;
  };

  // Adds the persistent values of a graph (gradients only when asked). A value that is there already must be of the
  // same type; a parameter may be met again as a weight.
  Result<void> add(const Graph& graph, bool gradients = true);

  const Entry* find(const std::string& name) const;
  const std::map<std::string, Entry>& entries() const { return entries_; }
  int64_t bytes() const { return bytes_; }
  int64_t bytes(Role role) const;

 private:
  std::map<std::string, Entry> entries_;
  int64_t bytes_ = 0;
};

}  // namespace thimble
