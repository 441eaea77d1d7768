#include "core/file_system.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace thimble {
namespace {

template <class T>
T or_error(T result) noexcept {
  return result < 0 ? -static_cast<T>(errno) : result;
}

FileSystem& of_this_system() noexcept {
  static FileSystem system;
  return system;
}

FileSystem* other = nullptr;

}  // namespace

int FileSystem::open(const std::string& path, int flags, unsigned mode) noexcept {
  return or_error(::open(path.c_str(), flags | O_CLOEXEC, mode));
}
int FileSystem::close(int descriptor) noexcept { return or_error(::close(descriptor)); }
int FileSystem::status(int descriptor, struct stat& status) noexcept { return or_error(::fstat(descriptor, &status)); }
int64_t FileSystem::read(int descriptor, void* to, size_t bytes, int64_t offset) noexcept {
  return or_error<int64_t>(::pread(descriptor, to, bytes, offset));
}
int64_t FileSystem::write(int descriptor, const void* from, size_t bytes, int64_t offset) noexcept {
  return or_error<int64_t>(::pwrite(descriptor, from, bytes, offset));
}
int64_t FileSystem::append(int descriptor, const void* from, size_t bytes) noexcept {
  return or_error<int64_t>(::write(descriptor, from, bytes));
}
int FileSystem::truncate(int descriptor, int64_t bytes) noexcept {
  if (const int error = or_error(::ftruncate(descriptor, bytes)); error < 0) return error;
  return ::lseek(descriptor, bytes, SEEK_SET) < 0 ? -errno : 0;
}
int FileSystem::sync(int descriptor) noexcept { return or_error(::fsync(descriptor)); }
int FileSystem::lock(int descriptor) noexcept { return or_error(::flock(descriptor, LOCK_EX | LOCK_NB)); }
int FileSystem::rename(const std::string& from, const std::string& to) noexcept {
  return or_error(::rename(from.c_str(), to.c_str()));
}
int FileSystem::unlink(const std::string& path) noexcept { return or_error(::unlink(path.c_str())); }
int FileSystem::make_folder(const std::string& path) noexcept { return or_error(::mkdir(path.c_str(), 0777)); }
int FileSystem::remove_folder(const std::string& path) noexcept { return or_error(::rmdir(path.c_str())); }

FileSystem& file_system() noexcept { return other ? *other : of_this_system(); }

int open_unnamed(const std::string& folder) {
  const int file = file_system().open(folder, O_TMPFILE | O_RDWR | O_EXCL, 0600);
  if (file >= 0 || (file != -EOPNOTSUPP && file != -EISDIR && file != -ENOENT && file != -EINVAL)) return file;
  for (int number = 0;; ++number) {
    const std::string name = folder + "/.thimble." + std::to_string(::getpid()) + "." + std::to_string(number);
    const int named = file_system().open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (named == -EEXIST) continue;
    if (named >= 0) file_system().unlink(name);
    return named;
  }
}

OtherFileSystem::OtherFileSystem(FileSystem& replacement) noexcept : before_(other) { other = &replacement; }
OtherFileSystem::~OtherFileSystem() { other = before_; }

}  // namespace thimble
