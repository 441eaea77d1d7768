// One file over HTTP into a folder: resumed, tried again, checked.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "fetch/transfer.h"

namespace thimble {

struct Download {
  std::string url, path, token;
  std::optional<uint64_t> bytes;  // of the whole file
  std::string sha256;             // in hexadecimal; empty: not known
  std::string git_blob;           // SHA-1 as git names a file's content; empty: not known
  int attempts = 5;               // without any progress
};

struct DownloadEvents {
  std::function<void(uint64_t done, std::optional<uint64_t> all)> progress;
  std::function<void(const std::string&)> note;  // a failed attempt
};

enum class DownloadOutcome { fetched, resumed, already_there };

// Writes "<path>.part" and renames it when it is whole and its size and hash are right. What came stays for the next
// time where a hash will tell whether it still belongs; a file of the wrong hash does not, and one that was continued
// is fetched anew. A file of which neither the listing nor the server says a size has at most kMostUnannounced bytes.
inline constexpr uint64_t kMostUnannounced = 64u << 20;
Result<DownloadOutcome> download(Transfers& transfers, const Download& file, const DownloadEvents& events);

// The text of a small answer.
Result<std::string> get_text(Transfers& transfers, const std::string& url, const std::string& token,
                             uint64_t limit_bytes, int attempts = 5);

}  // namespace thimble
