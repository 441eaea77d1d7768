#include "files/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "files/file_errors.h"

namespace thimble {

Result<InputFile> InputFile::open(const std::string& path) {
  // O_NONBLOCK: opening a FIFO would otherwise wait for its writer before it can be refused.
  Descriptor descriptor(again_if_interrupted([&] { return file_system().open(path, O_RDONLY | O_NONBLOCK); }));
  if (!descriptor) return fail(code_of(-descriptor.number()), "opening {}: {}", path, reason(-descriptor.number()));
  InputFile file(path, std::move(descriptor));
  struct stat status;
  if (const int error = file_system().status(file.descriptor_.number(), status); error < 0)
    return fail(ErrorCode::io, "opening {}: {}", path, reason(-error));
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
    const int64_t got = file_system().read(descriptor_.number(), to.data(), std::min(to.size(), kLargestTransfer),
                                           static_cast<int64_t>(offset));
    if (got == -EINTR) continue;
    if (got < 0)
      return fail(ErrorCode::io, "reading {} at offset {}: {}", path_, offset, reason(static_cast<int>(-got)));
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
  const int descriptor = open_unnamed(folder);
  if (descriptor < 0)
    return fail(ErrorCode::io, "reading {}: making a temporary file in {} ($TMPDIR): {}", shown, folder,
                reason(-descriptor));
  return TemporaryFile(InputFile(shown, Descriptor(descriptor)));
}

Result<void> TemporaryFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const int64_t put =
        file_system().write(file_.descriptor_.number(), bytes.data(), bytes.size(), static_cast<int64_t>(file_.size_));
    if (put == -EINTR) continue;
    if (put <= 0)
      return fail(ErrorCode::io, "reading {}: writing its content to a temporary file ($TMPDIR): {}", file_.path_,
                  reason(put < 0 ? static_cast<int>(-put) : EIO));
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

std::string nearest_folder(const std::string& path) {
  std::error_code none;  // the current folder may be gone
  std::filesystem::path folder = std::filesystem::absolute(path, none);
  if (none) return path;
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
