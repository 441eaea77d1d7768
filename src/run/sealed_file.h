// Safetensors files with hashes of all their bytes: the last tensor, "xxh3", has the XXH3 of the header, of every
// kHashedBlock bytes of the data before it, and of these hashes themselves.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/safetensors.h"

struct XXH3_state_s;

namespace thimble {

inline constexpr int64_t kHashedBlock = 1 << 20;

// XXH3 of each block of what is added.
class BlockHashes {
 public:
  explicit BlockHashes(int64_t block_bytes = kHashedBlock);
  void add(std::span<const std::byte> bytes);
  // With that of the last block, which may be shorter.
  std::vector<uint64_t> finish();

 private:
  void end_block();
  std::unique_ptr<XXH3_state_s, void (*)(XXH3_state_s*)> state_;
  int64_t block_bytes_;
  int64_t begun_ = 0;  // bytes of the block
  std::vector<uint64_t> hashes_;
};

// Reads all of it through `buffer`: ErrorCode::corrupt where a byte is not what was written. `what`: "this checkpoint".
Result<void> verify_sealed(const SafetensorsFile& file, std::string_view what, std::span<std::byte> buffer);

class SealedWriter {
 public:
  static Result<SealedWriter> create(const std::string& path, std::vector<SafetensorsTensor> tensors,
                                     const std::map<std::string, std::string>& metadata);
  // The next bytes of the data, as SafetensorsWriter has it.
  Result<void> write(std::span<const std::byte> bytes);
  // All is on disk, hashes included, under another name until finish().
  Result<void> sync();
  Result<void> finish() { return writer_.finish(); }

 private:
  explicit SealedWriter(SafetensorsWriter writer) : writer_(std::move(writer)) {}
  SafetensorsWriter writer_;
  BlockHashes hashes_;
};

}  // namespace thimble
