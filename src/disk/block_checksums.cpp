#include "disk/block_checksums.h"

#include <xxhash.h>

#include <algorithm>
#include <atomic>
#include <limits>

#include "disk/scratch.h"

namespace thimble {
namespace {

// Calls body(begin, end) on parts of [0, blocks), on all threads where each has more than one block to do.
template <class Body>
void spread(int64_t blocks, Threads& threads, const Body& body) noexcept {
  if (blocks <= threads.count()) return body(0, blocks);
  threads.split(blocks, 1, [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

void lower_to(std::atomic<int64_t>& least, int64_t value) noexcept {
  int64_t seen = least.load(std::memory_order_relaxed);
  while (value < seen && !least.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

}  // namespace

int64_t BlockChecksums::blocks(int64_t bytes) { return (bytes + kChecksumBlock - 1) / kChecksumBlock; }

uint64_t BlockChecksums::checksum(std::span<const std::byte> bytes, int64_t block) noexcept {
  const size_t begin = static_cast<size_t>(block * kChecksumBlock);
  const size_t size = std::min(bytes.size() - begin, static_cast<size_t>(kChecksumBlock));
  const uint64_t sum = XXH3_64bits(bytes.data() + begin, size);
  return sum == kNeverWritten ? 1 : sum;
}

void BlockChecksums::record(int64_t offset, std::span<const std::byte> bytes, Threads& threads) noexcept {
  uint64_t* const sums = sums_.data() + offset / kChecksumBlock;
  spread(blocks(std::ssize(bytes)), threads, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) sums[block] = checksum(bytes, block);
  });
}

std::optional<BlockChecksums::Mismatch> BlockChecksums::first_mismatch(int64_t offset, std::span<const std::byte> bytes,
                                                                       Threads& threads) const noexcept {
  constexpr int64_t kNone = std::numeric_limits<int64_t>::max();
  const uint64_t* const sums = sums_.data() + offset / kChecksumBlock;
  std::atomic<int64_t> first{kNone};
  spread(blocks(std::ssize(bytes)), threads, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      if (sums[block] != kNeverWritten && sums[block] != checksum(bytes, block)) return lower_to(first, block);
    }
  });
  const int64_t block = first.load();
  if (block == kNone) return std::nullopt;
  return Mismatch{offset + block * kChecksumBlock, sums[block], checksum(bytes, block)};
}

}  // namespace thimble
