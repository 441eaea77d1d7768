#include "core/control_groups.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace thimble {
namespace {

bool names(const std::string& list, const std::string& word) {
  std::istringstream words(list);
  for (std::string each; std::getline(words, each, ',');)
    if (each == word) return true;
  return false;
}

// "max" is no number: -1, as for a file that is absent.
int64_t number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t number = -1;
  return file >> number ? number : -1;
}

int64_t number_named(const std::string& path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  for (int64_t number = 0; file >> word >> number;)
    if (word == name) return number;
  return 0;
}

void lower(int64_t& least, int64_t value) { least = least < 0 ? value : std::min(least, value); }

}  // namespace

// Lines are "number:controllers:path"; of the unified hierarchy controllers are empty.
void each_control_group(const ControlGroups& groups, const std::string& controller,
                        const std::function<void(const std::string&, bool)>& visit) {
  std::ifstream file(groups.named);
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && !names(controllers, controller)) continue;
    const std::string root = groups.mount + (controllers.empty() ? "" : "/" + controllers);
    // In a container the path is often one of the host's, and what counts is at the mount itself: looked at last.
    for (std::string path = line.substr(second + 1);; path.erase(path.rfind('/'))) {
      visit(root + (path == "/" ? "" : path), controllers.empty());
      if (path.empty() || path.find('/') == std::string::npos) break;
    }
  }
}

GroupMemory group_memory(const ControlGroups& groups) {
  constexpr int64_t kNone = int64_t{1} << 60;  // version 1 says so large a number where there is no limit
  GroupMemory memory;
  each_control_group(groups, "memory", [&](const std::string& folder, bool unified) {
    const int64_t limit = number_in(folder + (unified ? "/memory.max" : "/memory.limit_in_bytes"));
    if (limit < 0 || limit >= kNone) return;
    lower(memory.limit_bytes, limit);
    const int64_t used = number_in(folder + (unified ? "/memory.current" : "/memory.usage_in_bytes"));
    const int64_t cached = number_named(folder + "/memory.stat", unified ? "inactive_file" : "total_inactive_file");
    if (used >= 0) lower(memory.free_bytes, std::max<int64_t>(0, limit - std::max<int64_t>(0, used - cached)));
  });
  return memory;
}

}  // namespace thimble
