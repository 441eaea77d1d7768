// One run at a time writes into a folder: a lock on a file in it, which the system lets go of when the process ends,
// however it does.
#pragma once

#include <string>

#include "core/file_system.h"
#include "core/result.h"

namespace thimble {

class OutLock {
 public:
  // Refuses a folder that another process writes into, with the number of that process. Where the file system has no
  // locks, that is warned of.
  static Result<OutLock> take(const std::string& folder);
  OutLock(OutLock&& other) noexcept = default;
  ~OutLock();  // removes the file

 private:
  OutLock(std::string path, Descriptor descriptor) : path_(std::move(path)), descriptor_(std::move(descriptor)) {}
  std::string path_;
  Descriptor descriptor_;
};

}  // namespace thimble
