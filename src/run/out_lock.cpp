#include "run/out_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/warnings.h"

namespace thimble {
namespace {

constexpr const char* kLockFile = "/.thimble.lock";

// The holder's process number, as it wrote it; "" before it did.
std::string holder(int descriptor) {
  std::array<char, 32> text{};
  const ssize_t read = ::pread(descriptor, text.data(), text.size() - 1, 0);
  std::string number(text.data(), read > 0 ? static_cast<size_t>(read) : 0);
  number.erase(number.find_last_not_of("\n ") + 1);
  return number.find_first_not_of("0123456789") == std::string::npos ? number : "";
}

// Whether the file is still the one at that path: a holder removes it.
bool still_there(int descriptor, const std::string& path) {
  struct stat own {
  }, there{};
  return ::fstat(descriptor, &own) == 0 && ::stat(path.c_str(), &there) == 0 && own.st_ino == there.st_ino &&
         own.st_dev == there.st_dev;
}

}  // namespace

Result<OutLock> OutLock::take(const std::string& folder) {
  const std::string path = folder + kLockFile;
  for (;;) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (descriptor < 0)
      return fail(ErrorCode::io, "--out {}: {} cannot be opened: {}", folder, path, std::strerror(errno));
    OutLock lock(path, descriptor);
    if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      if (error == EINTR) continue;
      if (error != EWOULDBLOCK) {
        warn(fmt::format("--out {}: it cannot be locked ({}); no other run may write there meanwhile", folder,
                         std::strerror(error)));
        return lock;
      }
      lock.path_.clear();  // it is not ours to remove
      const std::string number = holder(descriptor);
      return fail(ErrorCode::invalid_argument,
                  "--out {}: it is in use: another run{} writes there; wait for its end, or give another --out", folder,
                  number.empty() ? "" : fmt::format(" (process {})", number));
    }
    if (!still_there(descriptor, path)) {
      lock.path_.clear();
      continue;
    }
    const std::string number = std::to_string(::getpid()) + "\n";
    if (::ftruncate(descriptor, 0) != 0 ||
        ::pwrite(descriptor, number.data(), number.size(), 0) != static_cast<ssize_t>(number.size()))
      warn(fmt::format("--out {}: {} cannot be written: {}", folder, path, std::strerror(errno)));
    return lock;
  }
}

OutLock::OutLock(OutLock&& other) noexcept
    : path_(std::exchange(other.path_, "")), descriptor_(std::exchange(other.descriptor_, -1)) {}

OutLock& OutLock::operator=(OutLock&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

OutLock::~OutLock() {
  if (descriptor_ < 0) return;
  if (!path_.empty()) ::unlink(path_.c_str());
  ::close(descriptor_);
}

}  // namespace thimble
