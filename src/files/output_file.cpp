#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>

#include "files/file.h"
#include "files/file_errors.h"

namespace thimble {
namespace {

std::string folder_of(const std::string& path) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

Result<void> append_fully(const Descriptor& file, const std::string& path, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const int64_t written = file_system().append(file.number(), bytes.data(), std::min(bytes.size(), kLargestTransfer));
    if (written == -EINTR) continue;
    if (written <= 0) {
      return fail(ErrorCode::io, "writing {}: {} bytes are still to be written: {}", path, bytes.size(),
                  reason(written < 0 ? static_cast<int>(-written) : EIO));
    }
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  return {};
}

// Whether the rest of a temporary file's name is "PID.COUNT.part", as create() makes it.
bool is_counted_part(std::string_view rest) {
  if (!rest.ends_with(".part")) return false;
  rest.remove_suffix(5);
  const size_t dot = rest.find('.');
  const auto number = [](std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
  };
  return dot != std::string_view::npos && number(rest.substr(0, dot)) && number(rest.substr(dot + 1));
}

// What a process left that was killed while it wrote the same file. Who writes one holds its lock; right after it was
// made it may not be locked yet.
void remove_leftovers(const std::string& path, const std::string& folder) {
  const std::string name = std::filesystem::path(path).filename().string() + ".";
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string other = entry.path().filename().string();
    if (!other.starts_with(name) || !is_counted_part(std::string_view(other).substr(name.size()))) continue;
    const auto age = std::filesystem::file_time_type::clock::now() - entry.last_write_time(none);
    if (none || age < std::chrono::minutes(1)) continue;
    const std::string there = entry.path().string();
    const Descriptor file(file_system().open(there, O_RDONLY | O_NOFOLLOW | O_NONBLOCK));
    if (file && file_system().lock(file.number()) == 0) file_system().unlink(there);
  }
}

// Whether the file that is open is still the one at that path.
bool is_at(const Descriptor& file, const std::string& path) {
  struct stat own, there;
  return file_system().status(file.number(), own) == 0 && ::lstat(path.c_str(), &there) == 0 &&
         own.st_ino == there.st_ino && own.st_dev == there.st_dev;
}

}  // namespace

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(temporary_, other.temporary_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(keeps_, other.keeps_);
  std::swap(synced_, other.synced_);
  return *this;
}

OutputFile::~OutputFile() {
  if (!keeps_) discard();
}

void OutputFile::discard() {
  if (!descriptor_) return;
  file_system().unlink(temporary_);
  (void)descriptor_.close();
}

Result<OutputFile> OutputFile::create(const std::string& path) {
  const std::string folder = folder_of(path);
  if (!is_directory(folder)) {
    return fail(ErrorCode::invalid_argument, "creating {}: the folder {} does not exist; make it first", path, folder);
  }
  if (is_directory(path)) return fail(ErrorCode::invalid_argument, "creating {}: there is a folder of that name", path);
  if (struct stat there; ::lstat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode) && !S_ISLNK(there.st_mode))
    return fail(ErrorCode::invalid_argument,
                "creating {}: expected a regular file there or none, found a device, pipe or socket; give another name",
                path);
  remove_leftovers(path, folder);
  // Not mkstemp, which makes files that only their owner can read whatever the umask says.
  static std::atomic<uint64_t> next{0};
  for (;;) {
    std::string temporary = fmt::format("{}.{}.{}.part", path, ::getpid(), next++);
    Descriptor file(file_system().open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0666));
    if (file) {
      (void)file_system().lock(file.number());  // where there are no locks, nobody removes what seems left
      return OutputFile(path, std::move(temporary), std::move(file));
    }
    const int error = -file.number();
    if (error != EEXIST && error != EINTR) return fail(code_of(error), "creating {}: {}", temporary, reason(error));
  }
}

Result<OutputFile> OutputFile::resume(const std::string& path) {
  std::string temporary = path + ".part";
  Descriptor opened(again_if_interrupted(
      [&] { return file_system().open(temporary, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK, 0666); }));
  if (!opened) return fail(ErrorCode::io, "opening {} to go on with it: {}", temporary, reason(-opened.number()));
  OutputFile file(path, std::move(temporary), std::move(opened));
  file.keeps_ = true;
  // Whoever had the lock until now may have put the file into place: then it is not ours to write to.
  if (file_system().lock(file.descriptor_.number()) != 0 || !is_at(file.descriptor_, file.temporary_)) {
    return fail(ErrorCode::io, "writing {}: another process is writing it; wait for that one", file.temporary_);
  }
  struct stat status;
  if (file_system().status(file.descriptor_.number(), status) != 0 || !S_ISREG(status.st_mode)) {
    return fail(ErrorCode::io, "opening {} to go on with it: expected a regular file; remove it", file.temporary_);
  }
  file.size_ = static_cast<uint64_t>(status.st_size);
  return file;
}

Result<void> OutputFile::restart() {
  const int error = again_if_interrupted([&] { return file_system().truncate(descriptor_.number(), 0); });
  if (error != 0) return fail(ErrorCode::io, "emptying {}: {}", temporary_, reason(-error));
  size_ = 0;
  synced_ = false;
  return {};
}

Result<void> OutputFile::write(std::span<const std::byte> bytes) {
  if (!descriptor_) return fail(ErrorCode::io, "writing {}: the file is already committed", path_);
  synced_ = false;
  CHECK_OK(append_fully(descriptor_, path_, bytes));
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

Result<void> OutputFile::sync() {
  if (!descriptor_) return fail(ErrorCode::io, "syncing {}: the file is already committed, or was discarded", path_);
  if (synced_) return {};
  const int error = again_if_interrupted([&] { return file_system().sync(descriptor_.number()); });
  if (error != 0) {
    discard();
    return fail(ErrorCode::io, "syncing {}: {}", path_, reason(-error));
  }
  synced_ = true;
  return {};
}

Result<void> OutputFile::commit() {
  CHECK_OK(sync());
  CHECK_OK(rename_file(temporary_, path_));
  const int closed = descriptor_.close();
  if (closed != 0 && closed != -EINTR) return fail(ErrorCode::io, "closing {}: {}", path_, reason(-closed));
  return sync_directory(folder_of(path_));
}

Result<AppendFile> AppendFile::open(const std::string& path, bool keep) {
  const int flags = O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | (keep ? 0 : O_TRUNC);
  Descriptor opened(again_if_interrupted([&] { return file_system().open(path, flags, 0666); }));
  if (!opened) return fail(code_of(-opened.number()), "opening {}: {}", path, reason(-opened.number()));
  AppendFile file(path, std::move(opened));
  struct stat status;
  if (const int error = file_system().status(file.descriptor_.number(), status); error != 0)
    return fail(ErrorCode::io, "opening {}: {}", path, reason(-error));
  if (!S_ISREG(status.st_mode))
    return fail(ErrorCode::invalid_argument, "opening {}: expected a regular file, found something else", path);
  char last = '\n';
  if (status.st_size > 0 && file_system().read(file.descriptor_.number(), &last, 1, status.st_size - 1) == 1 &&
      last != '\n')
    CHECK_OK(file.write("\n"));
  return file;
}

Result<void> AppendFile::write(std::string_view text) {
  return append_fully(descriptor_, path_, std::as_bytes(std::span(text)));
}

Result<void> write_text_file(const std::string& path, std::string_view text) {
  OutputFile file = TRY(OutputFile::create(path));
  CHECK_OK(file.write(text));
  return file.commit();
}

Result<void> make_directories(const std::string& path) {
  std::filesystem::path folder(path);
  if (!folder.has_filename()) folder = folder.parent_path();  // "a/"
  if (is_directory(path) || folder.empty()) return {};
  const std::string above = folder_of(folder.string());
  if (above != folder.string()) CHECK_OK(make_directories(above));
  const int error = again_if_interrupted([&] { return file_system().make_folder(folder.string()); });
  if (error == -EEXIST && !is_directory(path))
    return fail(ErrorCode::invalid_argument, "making the folder {}: a file of that name is in the way", path);
  if (error != 0 && error != -EEXIST) return fail(code_of(-error), "making the folder {}: {}", path, reason(-error));
  return sync_directory(above);
}

Result<void> remove_file(const std::string& path) {
  const int error = again_if_interrupted([&] { return file_system().unlink(path); });
  if (error == 0 || error == -ENOENT) return {};
  return fail(code_of(-error), "removing {}: {}", path, reason(-error));
}

Result<void> rename_file(const std::string& from, const std::string& to) {
  const int error = again_if_interrupted([&] { return file_system().rename(from, to); });
  if (error == 0) return {};
  return fail(ErrorCode::io, "renaming {} to {}: {}", from, to, reason(-error));
}

Result<void> sync_directory(const std::string& folder) {
  const Descriptor opened(again_if_interrupted([&] { return file_system().open(folder, O_RDONLY | O_DIRECTORY); }));
  if (!opened) return fail(ErrorCode::io, "syncing folder {}: {}", folder, reason(-opened.number()));
  const int error = again_if_interrupted([&] { return file_system().sync(opened.number()); });
  // Some file systems cannot sync a directory and say EINVAL; their renames are as safe as they get.
  if (error == 0 || error == -EINVAL) return {};
  return fail(ErrorCode::io, "syncing folder {}: {}", folder, reason(-error));
}

}  // namespace thimble
