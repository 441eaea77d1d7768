#include "run/out_lock.h"

#include <fcntl.h>
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
std::string holder(const Descriptor& file) {
  std::array<char, 32> text{};
  const int64_t read = file_system().read(file.number(), text.data(), text.size() - 1, 0);
  std::string number(text.data(), read > 0 ? static_cast<size_t>(read) : 0);
  number.erase(number.find_last_not_of("\n ") + 1);
  return number.find_first_not_of("0123456789") == std::string::npos ? number : "";
}

// Whether the file is still the one at that path: a holder removes it.
bool still_there(const Descriptor& file, const std::string& path) {
  struct stat own {
  }, there{};
  return file_system().status(file.number(), own) == 0 && ::stat(path.c_str(), &there) == 0 &&
         own.st_ino == there.st_ino && own.st_dev == there.st_dev;
}

bool write_number(const Descriptor& file) {
  const std::string number = std::to_string(::getpid()) + "\n";
  return file_system().truncate(file.number(), 0) == 0 &&
         file_system().write(file.number(), number.data(), number.size(), 0) == std::ssize(number);
}

}  // namespace

Result<OutLock> OutLock::take(const std::string& folder) {
  const std::string path = folder + kLockFile;
  for (;;) {
    Descriptor opened(file_system().open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0644));
    if (opened.number() == -EINTR) continue;
    if (!opened)
      return fail(ErrorCode::io, "--out {}: {} cannot be opened: {}", folder, path, std::strerror(-opened.number()));
    const int error = -file_system().lock(opened.number());
    if (error == EINTR) continue;
    if (error == EWOULDBLOCK) {
      const std::string number = holder(opened);
      return fail(ErrorCode::invalid_argument,
                  "--out {}: it is in use: another run{} writes there; wait for its end, or give another --out", folder,
                  number.empty() ? "" : fmt::format(" (process {})", number));
    }
    if (error != 0)
      warn(fmt::format("--out {}: it cannot be locked ({}); no other run may write there meanwhile", folder,
                       std::strerror(error)));
    else if (!still_there(opened, path))
      continue;
    else if (!write_number(opened))
      warn(fmt::format("--out {}: {} cannot be written", folder, path));
    return OutLock(path, std::move(opened));
  }
}

OutLock::~OutLock() {
  if (descriptor_) file_system().unlink(path_);
}

}  // namespace thimble
