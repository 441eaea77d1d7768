// HTTP and hashes, in a module of their own (thimble_fetch.so), which only the commands that use them load: libcurl
// and what comes with it take 10 MB of resident memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/result.h"

namespace thimble {

struct HttpRequest {
  std::string url;
  uint64_t offset = 0;  // first byte wanted
  std::string token;    // for "Authorization: Bearer", not sent on to other hosts; empty: none
};

// Where the body goes. False stops the transfer.
class HttpSink {
 public:
  virtual ~HttpSink() = default;
  // Before the first byte, when the status is 200 or 206. offset: of the body's first byte; 0 where the server does not
  // give ranges. total: bytes of the whole file, when the server says.
  virtual bool begin(uint64_t offset, std::optional<uint64_t> total) = 0;
  virtual bool write(std::span<const std::byte> bytes) = 0;
};

struct HttpResponse {
  long status = 0;    // 0: there was none
  std::string error;  // of the connection, or why it was broken off; empty when the body came whole
  std::string body;   // of an answer that is no success, its beginning
};

enum class HashKind { sha256, sha1 };

class Hash {
 public:
  virtual ~Hash() = default;
  virtual void update(std::span<const std::byte> bytes) = 0;
  virtual std::string hex() = 0;  // once, at the end
};

class Transfers {
 public:
  virtual ~Transfers() = default;
  // Follows redirections, from HTTPS to HTTPS only. A connection on which nothing comes for a minute is given up.
  virtual HttpResponse get(const HttpRequest& request, HttpSink& sink) = 0;
  virtual std::unique_ptr<Hash> hash(HashKind kind) = 0;
};

// Loads the module, from beside the program or from ../lib/thimble.
Result<Transfers*> load_transfers();

}  // namespace thimble
