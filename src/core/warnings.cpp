#include "core/warnings.h"

#include <fmt/core.h>

#include <cstdio>
#include <mutex>
#include <set>

#include "core/printable.h"

namespace thimble {
namespace {

struct Channel {
  std::mutex mutex;
  std::set<std::string> given;
  std::function<void(const std::string&)> listener;
};

Channel& channel() {
  static Channel one;
  return one;
}

constexpr size_t kMost = 1000;  // texts that are remembered; a file cannot make it more

}  // namespace

void warn(const std::string& text) {
  Channel& all = channel();
  const std::lock_guard lock(all.mutex);
  if (all.given.size() >= kMost || !all.given.insert(text).second) return;
  if (all.listener) return all.listener(text);
  fmt::print(stderr, "warning: {}\n", printable(text));
}

void listen_for_warnings(std::function<void(const std::string& text)> listener) {
  Channel& all = channel();
  const std::lock_guard lock(all.mutex);
  all.listener = std::move(listener);
}

}  // namespace thimble
