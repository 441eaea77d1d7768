#include "plan/layout.h"

#include <algorithm>

#include "core/round.h"
#include "disk/scratch.h"

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
    // The host writes inputs whether or not anything reads them.
    if (!used[i] && value.role != Role::input) continue;
    if (!persistent(value.role) || (value.role == Role::gradient && !gradients)) continue;
    const Tier tier = on_disk_.contains(value.name) ? Tier::disk : Tier::ram;
    const auto [found, fresh] = entries_.try_emplace(
        value.name, Entry{value.type, value.role, tier, tier == Tier::disk ? disk_bytes_ : used_, value.initial});
    if (fresh && tier == Tier::disk) {
      disk_bytes_ += round_up(value.type.bytes(), kChecksumBlock);
    } else if (fresh) {
      used_ += round_up(value.type.bytes(), 64);
      bytes_ = round_up(used_, kDiskAlignment);
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

bool Layout::same_places(const Layout& other) const {
  return std::ranges::equal(entries_, other.entries_, [](const auto& a, const auto& b) {
    return a.first == b.first && a.second.type == b.second.type && a.second.tier == b.second.tier &&
           a.second.offset == b.second.offset;
  });
}

int64_t Layout::bytes(Role role, Tier tier) const {
  int64_t total = 0;
  for (const auto& [name, entry] : entries_)
    if (entry.role == role && entry.tier == tier) total += round_up(entry.type.bytes(), 64);
  return total;
}

int64_t Layout::other_bytes() const {
  int64_t bytes = bytes_;
  for (Role role : {Role::weight, Role::parameter, Role::gradient, Role::state}) bytes -= this->bytes(role);
  return bytes;
}

}  // namespace thimble
