#include "files/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

namespace thimble {
namespace {

std::string reason(int error) {
  if (error == ENOSPC) return "the disk is full; free some space or write elsewhere";
  if (error == EDQUOT) return "the disk quota is used up; free some space or write elsewhere";
  if (error == EACCES || error == EPERM) return "permission denied";
  return std::strerror(error);
}

// What was named is missing, of the wrong kind or not ours: other arguments would do. All else is the system's failure.
ErrorCode code_of(int error) {
  const bool named = error == ENOENT || error == ENOTDIR || error == EISDIR || error == EACCES || error == EPERM ||
                     error == ELOOP || error == ENAMETOOLONG || error == EEXIST || error == EROFS;
  return named ? ErrorCode::invalid_argument : ErrorCode::io;
}

std::string folder_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

// The kernel writes at most 2 GiB a call; smaller pieces also keep a signal from costing much.
constexpr size_t kLargestTransfer = 256u << 20;

Result<void> write_fully(int descriptor, const std::string& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), kLargestTransfer));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      return fail(ErrorCode::io, "writing {}: {} bytes are still to be written: {}", path, bytes.size(),
                  reason(written < 0 ? errno : EIO));
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

// A rename is on disk only when the directory that holds the name is.
Result<void> sync_directory(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return fail(ErrorCode::io, "syncing folder {}: {}", folder, reason(errno));
  const int error = ::fsync(descriptor) == 0 ? 0 : errno;
  ::close(descriptor);
  // Some file systems can not sync a directory and say EINVAL; their renames are as safe as they get.
  if (error != 0 && error != EINVAL) return fail(ErrorCode::io, "syncing folder {}: {}", folder, reason(error));
  return {};
}

}  // namespace

InputFile::InputFile(std::string path, int descriptor, uint64_t size)
    : path_(std::move(path)), descriptor_(descriptor), size_(size) {}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<InputFile> InputFile::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO would otherwise wait for its writer before it can be refused.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) return fail(code_of(errno), "opening {}: {}", path, reason(errno));
  InputFile file(path, descriptor, 0);
  struct stat status;
  if (::fstat(descriptor, &status) != 0) return fail(ErrorCode::io, "opening {}: {}", path, reason(errno));
  if (S_ISDIR(status.st_mode))
    return fail(ErrorCode::invalid_argument, "opening {}: expected a file, found a folder", path);
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorCode::invalid_argument, "opening {}: expected a regular file, found a device, pipe or socket",
                path);
  }
  file.size_ = static_cast<uint64_t>(status.st_size);
  return file;
}

Result<void> InputFile::read(uint64_t offset, std::span<std::byte> to) const {
  if (offset > size_ || to.size() > size_ - offset) {
    return fail(ErrorCode::corrupt, "reading {}: expected {} bytes at offset {}, but the file has {} in all", path_,
                to.size(), offset, size_);
  }
  while (!to.empty()) {
    const ssize_t got =
        ::pread(descriptor_, to.data(), std::min(to.size(), kLargestTransfer), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(ErrorCode::io, "reading {} at offset {}: {}", path_, offset, reason(errno));
    if (got == 0) {
      return fail(ErrorCode::corrupt, "reading {}: the file ends at offset {}, {} bytes short; it shrank while in use",
                  path_, offset, to.size());
    }
    to = to.subspan(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return {};
}

Result<TemporaryFile> TemporaryFile::create(const std::string& shown) {
  const char* const wanted = std::getenv("TMPDIR");
  const std::string folder = wanted && *wanted ? wanted : "/var/tmp";
  int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (descriptor < 0) {  // a file system without such files
    std::string name = folder + "/thimble.XXXXXX";
    descriptor = ::mkostemp(name.data(), O_CLOEXEC);
    if (descriptor >= 0) ::unlink(name.c_str());
  }
  if (descriptor < 0)
    return fail(ErrorCode::io, "reading {}: making a temporary file in {} ($TMPDIR): {}", shown, folder, reason(errno));
  return TemporaryFile(InputFile(shown, descriptor, 0));
}

Result<void> TemporaryFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(file_.descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(file_.size_));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0)
      return fail(ErrorCode::io, "reading {}: writing its content to a temporary file ($TMPDIR): {}", file_.path_,
                  reason(errno));
    file_.size_ += static_cast<uint64_t>(put);
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return {};
}

Result<std::string> read_text_file(const std::string& path, uint64_t limit_bytes) {
  const InputFile file = TRY(InputFile::open(path));
  if (file.size() > limit_bytes) {
    return fail(ErrorCode::invalid_argument, "reading {}: expected at most {} bytes, found {}; is it the right file?",
                path, limit_bytes, file.size());
  }
  std::string text(file.size(), '\0');
  CHECK_OK(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

OutputFile::OutputFile(std::string path, std::string temporary, int descriptor)
    : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(descriptor) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      keeps_(other.keeps_) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(keeps_, other.keeps_);
  return *this;
}

OutputFile::~OutputFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  if (!keeps_) ::unlink(temporary_.c_str());
}

namespace {

// What a process left that was killed while it wrote the same file.
void remove_leftovers(const std::string& path, const std::string& folder) {
  const std::string name = std::filesystem::path(path).filename().string() + ".";
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string other = entry.path().filename().string();
    if (!other.starts_with(name) || !other.ends_with(".part")) continue;
    const int pid = std::atoi(other.c_str() + name.size());
    const auto age = std::filesystem::file_time_type::clock::now() - entry.last_write_time(none);
    const bool dead = pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH;
    if (dead && !none && age > std::chrono::minutes(1)) std::filesystem::remove(entry.path(), none);
  }
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path) {
  const std::string folder = folder_of(path);
  if (!is_directory(folder)) {
    return fail(ErrorCode::invalid_argument, "creating {}: the folder {} does not exist; make it first", path, folder);
  }
  if (is_directory(path)) return fail(ErrorCode::invalid_argument, "creating {}: there is a folder of that name", path);
  remove_leftovers(path, folder);
  // Not mkstemp, which makes files that only their owner can read whatever the umask says.
  static std::atomic<uint64_t> next{0};
  for (;;) {
    std::string temporary = fmt::format("{}.{}.{}.part", path, ::getpid(), next++);
    const int descriptor = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) return OutputFile(path, std::move(temporary), descriptor);
    if (errno != EEXIST && errno != EINTR) return fail(code_of(errno), "creating {}: {}", temporary, reason(errno));
  }
}

Result<OutputFile> OutputFile::resume(const std::string& path) {
  std::string temporary = path + ".part";
  const int descriptor =
      ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
  if (descriptor < 0) return fail(ErrorCode::io, "opening {} to go on with it: {}", temporary, reason(errno));
  OutputFile file(path, std::move(temporary), descriptor);
  file.keeps_ = true;
  struct stat status;
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::io, "opening {} to go on with it: expected a regular file; remove it", file.temporary_);
  }
  if (::flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    return fail(ErrorCode::io, "writing {}: another process is writing it; wait for that one", file.temporary_);
  }
  file.size_ = static_cast<uint64_t>(status.st_size);
  return file;
}

Result<void> OutputFile::restart() {
  // Not O_APPEND files only: the next write must begin at the start.
  if (::ftruncate(descriptor_, 0) != 0 || ::lseek(descriptor_, 0, SEEK_SET) < 0) {
    return fail(ErrorCode::io, "emptying {}: {}", temporary_, reason(errno));
  }
  size_ = 0;
  return {};
}

Result<void> OutputFile::write(std::span<const std::byte> bytes) {
  if (descriptor_ < 0) return fail(ErrorCode::io, "writing {}: the file is already committed", path_);
  CHECK_OK(write_fully(descriptor_, path_, bytes));
  size_ += bytes.size();
  return {};
}

Result<void> OutputFile::write(std::string_view text) { return write(std::as_bytes(std::span(text))); }

Result<void> OutputFile::write_zeros(uint64_t count) {
  static constexpr std::array<std::byte, 4096> kZeros{};
  while (count > 0) {
    const uint64_t piece = std::min<uint64_t>(count, kZeros.size());
    CHECK_OK(write(std::span(kZeros).first(piece)));
    count -= piece;
  }
  return {};
}

Result<void> OutputFile::commit() {
  if (descriptor_ < 0) return fail(ErrorCode::io, "committing {}: the file is already committed", path_);
  // Until the rename has worked, every way out removes the temporary file.
  if (::fsync(descriptor_) != 0) return fail(ErrorCode::io, "syncing {}: {}", path_, reason(errno));
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    return fail(ErrorCode::io, "renaming {} to {}: {}", temporary_, path_, reason(errno));
  }
  const int closed = ::close(std::exchange(descriptor_, -1));
  if (closed != 0 && errno != EINTR) return fail(ErrorCode::io, "closing {}: {}", path_, reason(errno));
  return sync_directory(folder_of(path_));
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

AppendFile& AppendFile::operator=(AppendFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

AppendFile::~AppendFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<AppendFile> AppendFile::open(const std::string& path, bool keep) {
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | (keep ? 0 : O_TRUNC), 0666);
  if (descriptor < 0) return fail(code_of(errno), "opening {}: {}", path, reason(errno));
  AppendFile file(path, descriptor);
  char last = '\n';
  const off_t size = ::lseek(descriptor, 0, SEEK_END);
  if (size > 0 && ::pread(descriptor, &last, 1, size - 1) == 1 && last != '\n') CHECK_OK(file.write("\n"));
  return file;
}

Result<void> AppendFile::write(std::string_view text) {
  return write_fully(descriptor_, path_, std::as_bytes(std::span(text)));
}

Result<void> write_text_file(const std::string& path, std::string_view text) {
  OutputFile file = TRY(OutputFile::create(path));
  CHECK_OK(file.write(text));
  return file.commit();
}

Result<void> make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) return fail(code_of(error.value()), "making the folder {}: {}", path, reason(error.value()));
  if (!is_directory(path))
    return fail(ErrorCode::invalid_argument, "making the folder {}: a file of that name is in the way", path);
  return {};
}

std::string nearest_folder(const std::string& path) {
  std::filesystem::path folder = std::filesystem::absolute(path);
  while (!is_directory(folder.string()) && folder.has_relative_path()) folder = folder.parent_path();
  return folder.string();
}

Result<void> check_output(std::string_view flag, const std::string& output, std::span<const std::string> inputs) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (output.empty() || !fs::exists(output, ignored)) return {};
  for (const std::string& input : inputs) {
    if (input.empty() || !fs::exists(input, ignored)) continue;
    const bool same = fs::equivalent(output, input, ignored);
    const fs::path folder = fs::weakly_canonical(input, ignored), file = fs::weakly_canonical(output, ignored);
    const bool within = fs::is_directory(folder, ignored) && !fs::is_directory(file, ignored) &&
                        std::mismatch(folder.begin(), folder.end(), file.begin(), file.end()).first == folder.end();
    if (same || within)
      return fail(ErrorCode::invalid_argument, "{} {}: it would be written over {}{}; name another place", flag, output,
                  within ? "a file of " : "", input);
  }
  return {};
}

bool is_directory(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_file(const std::string& path) {
  struct stat status;
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace thimble
