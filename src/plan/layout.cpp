#include "plan/layout.h"

#include <set>

namespace thimble {

Result<void> Layout::add(const Graph& graph, bool gradients) {
  std::vector<char> used(graph.values().size(), 0);
  for (const Node& node : graph.nodes()) {
    for (ValueId id : node.in)
      if (id != kNone) used[static_cast<size_t>(id)] = 1;
    for (ValueId id : node.out)
      if (id != kNone) used[static_cast<size_t>(id)] = 1;
  }
  for (size_t i = 0; i < used.size(); ++i) {
    const Value& value = graph.values()[i];
    if (!used[i] || !persistent(value.role) || (value.role == Role::gradient && !gradients)) continue;
    const auto [found, fresh] = entries_.try_emplace(value.name, Entry{value.type, value.role, bytes_});
    if (fresh) {
      bytes_ += (value.type.bytes() + 63) / 64 * 64;
    } else if (!(found->second.type == value.type)) {
      return fail(ErrorCode::invalid_argument, "plan: '{}' is {}{} in one program and {}{} in another", value.name,
                  found->second.type.codec->name, found->second.type.shape.text(), value.type.codec->name,
                  value.type.shape.text());
    } else if (value.role == Role::parameter) {
      found->second.role = Role::parameter;
    }
  }
  return {};
}

const Layout::Entry* Layout::find(const std::string& name) const {
  const auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : &found->second;
}

int64_t Layout::bytes(Role role) const {
  int64_t total = 0;
  for (const auto& [name, entry] : entries_)
    if (entry.role == role) total += (entry.type.bytes() + 63) / 64 * 64;
  return total;
}

}  // namespace thimble
