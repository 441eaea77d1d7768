// The one way in and out of the file system. Reading is by pread, never mapped (mapped pages would count against the
// budget); writing is beside, synced, renamed, directory synced, so that a crash leaves the old file or the new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/file_system.h"
#include "core/result.h"

namespace thimble {

// A file open for reading at any offset. Movable; closes itself. Thread-safe.
class InputFile {
 public:
  static Result<InputFile> open(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }
  // Fills `to`, or says how many bytes were missing (corrupt) or what failed (io).
  Result<void> read(uint64_t offset, std::span<std::byte> to) const;

 private:
  friend class TemporaryFile;
  InputFile(std::string path, Descriptor descriptor) : path_(std::move(path)), descriptor_(std::move(descriptor)) {}
  std::string path_;
  Descriptor descriptor_;
  uint64_t size_ = 0;
};

// The whole of a small file as text; an error when it is larger than `limit_bytes`.
Result<std::string> read_text_file(const std::string& path, uint64_t limit_bytes = 64u << 20);

// A file being written under a temporary name beside `path`. Nothing is seen at `path` before commit(); a file that
// is destroyed uncommitted is removed.
class OutputFile {
 public:
  static Result<OutputFile> create(const std::string& path);
  // Goes on with "<path>.part", which stays when it is not committed; size() tells how much is there. Refused while
  // another process writes it.
  static Result<OutputFile> resume(const std::string& path);
  OutputFile(OutputFile&&) noexcept = default;
  OutputFile& operator=(OutputFile&&) noexcept;
  ~OutputFile();

  const std::string& temporary() const { return temporary_; }
  uint64_t size() const { return size_; }  // bytes written so far
  Result<void> write(std::span<const std::byte> bytes);
  Result<void> write(std::string_view text);
  Result<void> write_zeros(uint64_t count);
  Result<void> restart();  // forgets everything written
  // What was written is on disk then. The system may report a failed sync once and take the next for done without the
  // bytes: after a failure nothing of the file is left, and every further call fails.
  Result<void> sync();
  Result<void> commit();  // syncs, too
  void discard();         // removes what was written

 private:
  OutputFile(std::string path, std::string temporary, Descriptor descriptor)
      : path_(std::move(path)), temporary_(std::move(temporary)), descriptor_(std::move(descriptor)) {}
  std::string path_;
  std::string temporary_;
  Descriptor descriptor_;  // none: committed or discarded
  uint64_t size_ = 0;
  bool keeps_ = false;  // the temporary file, when it is not committed
  bool synced_ = false;
};

// A file without a name that is written once, then read: what an input holds in another form. It lies in $TMPDIR, or
// else /var/tmp, and is gone when it is closed.
class TemporaryFile {
 public:
  // `shown`: the path that messages name, that of the input.
  static Result<TemporaryFile> create(const std::string& shown);
  uint64_t size() const { return file_.size(); }
  Result<void> write(std::span<const std::byte> bytes);
  Result<InputFile> finish() && { return std::move(file_); }

 private:
  explicit TemporaryFile(InputFile file) : file_(std::move(file)) {}
  InputFile file_;
};

// A log: lines are added at the end and seen at once. A line cut off by a crash stays, but the next begins on its own.
class AppendFile {
 public:
  // `keep`: what the file holds already stays. A link in its place is not followed.
  static Result<AppendFile> open(const std::string& path, bool keep);

  // `text` ends with a newline.
  Result<void> write(std::string_view text);

 private:
  AppendFile(std::string path, Descriptor descriptor) : path_(std::move(path)), descriptor_(std::move(descriptor)) {}
  std::string path_;
  Descriptor descriptor_;
};

Result<void> write_text_file(const std::string& path, std::string_view text);

// Makes the folder and those above it that are missing, and syncs their names; one that exists already is fine.
Result<void> make_directories(const std::string& path);

// One that is absent is fine.
Result<void> remove_file(const std::string& path);

// Within a folder; on disk only when sync_directory() has been called for that.
Result<void> rename_file(const std::string& from, const std::string& to);

// The names in a folder are on disk then: of files made, renamed and removed there.
Result<void> sync_directory(const std::string& folder);

// The folder itself, or the nearest one above it that exists.
std::string nearest_folder(const std::string& path);

// Refuses to write `output`, given by `flag`, over something that is read: one of `inputs`, or a file that lies in one
// of them that is a folder. "" among them is none.
Result<void> check_output(std::string_view flag, const std::string& output, std::span<const std::string> inputs);

bool is_directory(const std::string& path);
bool is_file(const std::string& path);

}  // namespace thimble
