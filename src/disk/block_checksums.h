// XXH3_64 of each block of kChecksumBlock bytes of a file, as it was last written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/threads.h"

namespace thimble {

// `offset` is a multiple of kChecksumBlock everywhere. A block of which only the beginning is written counts as its
// beginning: it must be read with the same size.
class BlockChecksums {
 public:
  struct Mismatch {
    int64_t offset;  // of the block in the file
    uint64_t expected;
    uint64_t found;
  };

  explicit BlockChecksums(int64_t file_bytes) : sums_(static_cast<size_t>(blocks(file_bytes)), kNeverWritten) {}
  void record(int64_t offset, std::span<const std::byte> bytes, Threads& threads) noexcept;
  // The first block that is not as recorded. One that was never recorded is not checked.
  std::optional<Mismatch> first_mismatch(int64_t offset, std::span<const std::byte> bytes,
                                         Threads& threads) const noexcept;
  static int64_t memory_bytes(int64_t file_bytes) { return blocks(file_bytes) * int64_t{sizeof(uint64_t)}; }

 private:
  static constexpr uint64_t kNeverWritten = 0;
  static int64_t blocks(int64_t bytes);
  static uint64_t checksum(std::span<const std::byte> bytes, int64_t block) noexcept;

  std::vector<uint64_t> sums_;
};

}  // namespace thimble
