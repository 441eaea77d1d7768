// What the system answers, as errors of ours: for the files that call it.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "core/result.h"

namespace thimble {

// The kernel moves at most 2 GiB a call; smaller pieces also keep a signal from costing much.
inline constexpr size_t kLargestTransfer = 256u << 20;

inline std::string reason(int error) {
  if (error == ENOSPC) return "the disk is full; free some space or write elsewhere";
  if (error == EDQUOT) return "the disk quota is used up; free some space or write elsewhere";
  if (error == EACCES || error == EPERM) return "permission denied";
  if (error == ELOOP) return "it is a symbolic link, or there are too many";
  return std::strerror(error);
}

// What was named is missing, of the wrong kind or not ours: other arguments would do. All else is the system's failure.
inline ErrorCode code_of(int error) {
  const bool named = error == ENOENT || error == ENOTDIR || error == EISDIR || error == EACCES || error == EPERM ||
                     error == ELOOP || error == ENAMETOOLONG || error == EEXIST || error == EROFS;
  return named ? ErrorCode::invalid_argument : ErrorCode::io;
}

template <class Call>
auto again_if_interrupted(Call call) {
  auto result = call();
  while (result == -EINTR) result = call();
  return result;
}

}  // namespace thimble
