// The one door to the disk: every file is opened, read, written, synced, renamed and removed through these calls. Tests
// put a disk behind it that fails, or one that forgets what was not synced.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace thimble {

// The system's calls, once each: an interrupted or short transfer is the caller's to continue. What the call returns,
// or -errno. Thread-safe.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual int open(const std::string& path, int flags, unsigned mode = 0) noexcept;
  virtual int close(int descriptor) noexcept;
  virtual int status(int descriptor, struct stat& status) noexcept;
  virtual int64_t read(int descriptor, void* to, size_t bytes, int64_t offset) noexcept;
  virtual int64_t write(int descriptor, const void* from, size_t bytes, int64_t offset) noexcept;
  // At the position of the descriptor, or the end of a file opened with O_APPEND.
  virtual int64_t append(int descriptor, const void* from, size_t bytes) noexcept;
  virtual int truncate(int descriptor, int64_t bytes) noexcept;  // the position becomes the end
  virtual int sync(int descriptor) noexcept;                     // of a file, or of the names in a folder
  virtual int lock(int descriptor) noexcept;                     // for this process alone; -EWOULDBLOCK: another has it
  virtual int rename(const std::string& from, const std::string& to) noexcept;
  virtual int unlink(const std::string& path) noexcept;
  virtual int make_folder(const std::string& path) noexcept;
  virtual int remove_folder(const std::string& path) noexcept;  // an empty one
};

FileSystem& file_system() noexcept;

// An open file, closed in the end.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) noexcept : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() { close(); }

  int number() const noexcept { return number_; }
  explicit operator bool() const noexcept { return number_ >= 0; }
  // 0, or -errno.
  int close() noexcept { return number_ < 0 ? 0 : file_system().close(std::exchange(number_, -1)); }

 private:
  int number_ = -1;
};

// A new file without a name in that folder, for reading and writing by this user only; or, where the file system knows
// none, one whose name goes at once. -errno.
int open_unnamed(const std::string& folder);

// For tests: while it lives, another file system is used. Not while other threads use files.
class OtherFileSystem {
 public:
  explicit OtherFileSystem(FileSystem& other) noexcept;
  ~OtherFileSystem();
  OtherFileSystem(const OtherFileSystem&) = delete;
  OtherFileSystem& operator=(const OtherFileSystem&) = delete;

 private:
  FileSystem* before_;
};

}  // namespace thimble
