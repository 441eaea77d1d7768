#include "run/sealed_file.h"

#include <xxhash.h>

#include <algorithm>
#include <limits>

namespace thimble {
namespace {

constexpr const char* kHashes = "xxh3";

uint64_t hash_of(std::span<const uint64_t> hashes) { return XXH3_64bits(hashes.data(), hashes.size_bytes()); }

// Hashes of what the file holds, as its last tensor should have them.
Result<std::vector<uint64_t>> hash_file(const SafetensorsFile& file, uint64_t data, uint64_t end,
                                        std::span<std::byte> buffer) {
  BlockHashes header(std::numeric_limits<int64_t>::max()), all;
  const auto hash = [&](uint64_t from, uint64_t to, BlockHashes& hashes) -> Result<void> {
    for (uint64_t at = from; at < to; at += buffer.size()) {
      const auto part = buffer.first(std::min<uint64_t>(buffer.size(), to - at));
      CHECK_OK(file.file().read(at, part));
      hashes.add(part);
    }
    return {};
  };
  CHECK_OK(hash(0, data, header));
  CHECK_OK(hash(data, end, all));
  std::vector<uint64_t> hashes = header.finish();
  const std::vector<uint64_t> blocks = all.finish();
  hashes.insert(hashes.end(), blocks.begin(), blocks.end());
  return hashes;
}

}  // namespace

BlockHashes::BlockHashes(int64_t block_bytes)
    : state_(XXH3_createState(), [](XXH3_state_s* state) { XXH3_freeState(state); }), block_bytes_(block_bytes) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(state_.get());
}

void BlockHashes::end_block() {
  hashes_.push_back(XXH3_64bits_digest(state_.get()));
  XXH3_64bits_reset(state_.get());
  begun_ = 0;
}

void BlockHashes::add(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto part = bytes.first(std::min(bytes.size(), static_cast<size_t>(block_bytes_ - begun_)));
    XXH3_64bits_update(state_.get(), part.data(), part.size());
    begun_ += std::ssize(part);
    if (begun_ == block_bytes_) end_block();
    bytes = bytes.subspan(part.size());
  }
}

std::vector<uint64_t> BlockHashes::finish() {
  if (begun_ > 0) end_block();
  return std::move(hashes_);
}

Result<void> verify_sealed(const SafetensorsFile& file, std::string_view what, std::span<std::byte> buffer) {
  const auto damaged = [&](const std::string& how) {
    return fail(ErrorCode::corrupt, "{}: {} is damaged: {}", file.path(), what, how);
  };
  const auto entries = file.entries();
  if (entries.empty() || entries.back().name != kHashes || entries.back().dtype != "U64")
    return damaged("its hashes are missing");
  const SafetensorsEntry& last = entries.back();
  std::vector<uint64_t> stored(last.bytes / sizeof(uint64_t));
  CHECK_OK(file.file().read(last.offset, std::as_writable_bytes(std::span(stored))));
  if (stored.size() < 2 || stored.back() != hash_of(std::span(stored).first(stored.size() - 1)))
    return damaged("its hashes are not those that were written");
  stored.pop_back();
  const std::vector<uint64_t> found = TRY(hash_file(file, entries.front().offset, last.offset, buffer));
  const auto [expected, other] = std::ranges::mismatch(stored, found);
  if (expected == stored.end() && other == found.end()) return {};
  const auto block = expected - stored.begin();
  return damaged(block == 0 ? "its header is not what was written"
                            : fmt::format("its data is not what was written, from MiB {} on", block - 1));
}

Result<SealedWriter> SealedWriter::create(const std::string& path, std::vector<SafetensorsTensor> tensors,
                                          const std::map<std::string, std::string>& metadata) {
  int64_t bytes = 0;
  for (const SafetensorsTensor& tensor : tensors)
    bytes += tensor.shape.count() * static_cast<int64_t>(safetensors_element_bytes(tensor.dtype).value_or(0));
  const int64_t blocks = (bytes + kHashedBlock - 1) / kHashedBlock;
  tensors.push_back({kHashes, "U64", Shape{1 + blocks + 1}});
  return SealedWriter(TRY(SafetensorsWriter::create(path, tensors, metadata)));
}

Result<void> SealedWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {  // what was hashed is still in a cache when it is written
    const auto part = bytes.first(std::min<size_t>(bytes.size(), kHashedBlock));
    hashes_.add(part);
    CHECK_OK(writer_.write(part));
    bytes = bytes.subspan(part.size());
  }
  return {};
}

Result<void> SealedWriter::sync() {
  std::vector<uint64_t> hashes = {writer_.header_hash()};
  const std::vector<uint64_t> blocks = hashes_.finish();
  hashes.insert(hashes.end(), blocks.begin(), blocks.end());
  hashes.push_back(hash_of(hashes));
  CHECK_OK(writer_.write(std::as_bytes(std::span(hashes))));
  return writer_.sync();
}

}  // namespace thimble
