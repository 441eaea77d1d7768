#include "disk/scratch_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "disk/scratch.h"

namespace thimble {
namespace {

constexpr int64_t kMegabyte = 1'000'000;

Failure cannot(const std::string& folder, const char* step, int error) {
  return fail(ErrorCode::io,
              "making a scratch file in {}: {}: {}; give --scratch a folder on a disk that you may write", folder, step,
              std::strerror(error));
}

Failure too_little_space(const std::string& folder, int64_t needed, int64_t free) {
  return fail(
      ErrorCode::io,
      "making a scratch file in {}: it needs {} MB, and {} MB are free there; free some space, or give --scratch "
      "a folder on a larger disk",
      folder, (needed - 1) / kMegabyte + 1, free / kMegabyte);
}

Result<void> refuse_no_folder(const std::string& folder) {
  struct stat status {};
  const int error = ::stat(folder.c_str(), &status) != 0 ? errno : !S_ISDIR(status.st_mode) ? ENOTDIR : 0;
  if (error == 0 && ::access(folder.c_str(), W_OK) == 0) return {};
  return fail(ErrorCode::invalid_argument, "making a scratch file in {}: {}; give --scratch a folder on a disk {}",
              folder, std::strerror(error ? error : errno), error == ENOENT ? "that exists" : "that you may write");
}

Result<void> refuse_memory(const std::string& folder) {
  struct statfs system {};
  if (::statfs(folder.c_str(), &system) != 0) return cannot(folder, "asking for its file system", errno);
  const auto magic = static_cast<uint64_t>(system.f_type) & 0xffffffff;
  if (magic != TMPFS_MAGIC && magic != RAMFS_MAGIC) return {};
  return fail(ErrorCode::invalid_argument,
              "making a scratch file in {}: this folder is itself in memory ({}), so no memory would be saved; give "
              "--scratch a folder on a disk",
              folder, magic == TMPFS_MAGIC ? "tmpfs" : "ramfs");
}

// Going over this limit would kill the process (SIGXFSZ).
Result<void> check_limit(const std::string& folder, int64_t bytes) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur >= static_cast<rlim_t>(bytes)) return {};
  return fail(
      ErrorCode::io,
      "making a scratch file in {}: it needs {} MB, and files of this process may have {} MB at most; raise the "
      "limit (ulimit -f)",
      folder, (bytes - 1) / kMegabyte + 1, limit.rlim_cur / kMegabyte);
}

// Not posix_fallocate: where the file system cannot, it would write to every block through the page cache.
int take_space(int file, int64_t bytes) {
  int status = 0;
  do status = ::fallocate(file, 0, 0, bytes);
  while (status != 0 && errno == EINTR);
  if (status != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) status = ::ftruncate(file, bytes);
  return status == 0 ? 0 : errno;
}

// Some file systems take the flag and refuse the transfers: one block is tried.
void try_direct(int file) {
  const int flags = ::fcntl(file, F_GETFL);
  if (flags < 0 || ::fcntl(file, F_SETFL, flags | O_DIRECT) != 0) return;
  alignas(kDiskAlignment) std::array<std::byte, kDiskAlignment> block{};
  const bool works = ::pwrite(file, block.data(), block.size(), 0) == std::ssize(block) &&
                     ::pread(file, block.data(), block.size(), 0) == std::ssize(block);
  if (!works) ::fcntl(file, F_SETFL, flags & ~O_DIRECT);
}

}  // namespace

Result<int64_t> free_disk_bytes(const std::string& folder) {
  struct statvfs system {};
  if (::statvfs(folder.c_str(), &system) != 0)
    return fail(ErrorCode::io, "asking for the free space in {}: {}", folder, std::strerror(errno));
  return static_cast<int64_t>(system.f_bavail * system.f_frsize);
}

Result<void> ScratchFile::check(const std::string& folder, int64_t bytes) {
  CHECK_OK(refuse_no_folder(folder));
  CHECK_OK(refuse_memory(folder));
  const int64_t free = TRY(free_disk_bytes(folder));
  if (free < bytes) return too_little_space(folder, bytes, free);
  return check_limit(folder, bytes);
}

Result<ScratchFile> ScratchFile::create(const std::string& folder, int64_t bytes) {
  CHECK_OK(check(folder, bytes));
  ScratchFile file(open_unnamed(folder));
  if (!file.descriptor_) return cannot(folder, "opening it", -file.descriptor());
  const int error = take_space(file.descriptor(), bytes);
  if (error == ENOSPC) return too_little_space(folder, bytes, TRY(free_disk_bytes(folder)));
  if (error != 0) return cannot(folder, "taking its space", error);
  try_direct(file.descriptor());
  ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);  // nothing is read ahead into the page cache
  return file;
}

bool ScratchFile::is_direct() const noexcept { return (::fcntl(descriptor(), F_GETFL) & O_DIRECT) != 0; }

void ScratchFile::start_writeback(int64_t offset, int64_t bytes) const noexcept {
  ::sync_file_range(descriptor(), offset, bytes, SYNC_FILE_RANGE_WRITE);
}

int ScratchFile::drop_from_cache(int64_t offset, int64_t bytes) const noexcept {
  constexpr unsigned kWrittenAndWaited =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  const int status = ::sync_file_range(descriptor(), offset, bytes, kWrittenAndWaited);
  const int error = status == 0 || errno == ENOSYS || errno == ESPIPE ? 0 : errno;
  ::posix_fadvise(descriptor(), offset, bytes, POSIX_FADV_DONTNEED);
  return error;
}

}  // namespace thimble
