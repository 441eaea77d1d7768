// Making the file of the disk tier: on a real disk, with its space taken, of no name, past the page cache if possible.
#pragma once

#include <cstdint>
#include <string>

#include "core/file_system.h"
#include "core/result.h"

namespace thimble {

// What this process may still write in a folder.
Result<int64_t> free_disk_bytes(const std::string& folder);

class ScratchFile {
 public:
  // What create() would refuse at once, without making anything.
  static Result<void> check(const std::string& folder, int64_t bytes);
  static Result<ScratchFile> create(const std::string& folder, int64_t bytes);

  int descriptor() const noexcept { return descriptor_.number(); }
  bool is_direct() const noexcept;  // transfers pass by the page cache

  // For a file that is not direct: begin to write the range to the disk; wait for that and forget its pages in the
  // cache, which would count as memory in use. The latter returns an errno, 0 when done.
  void start_writeback(int64_t offset, int64_t bytes) const noexcept;
  int drop_from_cache(int64_t offset, int64_t bytes) const noexcept;

 private:
  explicit ScratchFile(int descriptor) : descriptor_(descriptor) {}
  Descriptor descriptor_;
};

}  // namespace thimble
