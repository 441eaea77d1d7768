#include "run/checkpoint_files.h"

#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>

#include "run/resume.h"

namespace thimble {
namespace {

constexpr const char* kHashes = "xxh3";
constexpr std::string_view kBefore = "checkpoint-", kSuffix = ".safetensors";

// The step in the name of an earlier checkpoint; -1 for any other file.
int64_t step_in(std::string_view name) {
  if (!name.starts_with(kBefore) || !name.ends_with(kSuffix)) return -1;
  name.remove_prefix(kBefore.size());
  name.remove_suffix(std::min(name.size(), kSuffix.size()));
  int64_t step = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  return error == std::errc{} && end == name.data() + name.size() ? step : -1;
}

uint64_t hash_of(std::span<const uint64_t> hashes) { return XXH3_64bits(hashes.data(), hashes.size_bytes()); }

Failure damaged(const SafetensorsFile& checkpoint, const std::string& how) {
  return fail(ErrorCode::corrupt, "{}: this checkpoint is damaged: {}", checkpoint.path(), how);
}

// Hashes of what the file holds, as its last tensor should have them.
Result<std::vector<uint64_t>> hash_file(const SafetensorsFile& checkpoint, uint64_t data, uint64_t end) {
  std::vector<std::byte> bytes(kHashedBlock);
  BlockHashes header(std::numeric_limits<int64_t>::max()), all;
  const auto hash = [&](uint64_t from, uint64_t to, BlockHashes& hashes) -> Result<void> {
    for (uint64_t at = from; at < to; at += bytes.size()) {
      const auto part = std::span(bytes).first(std::min<uint64_t>(bytes.size(), to - at));
      CHECK_OK(checkpoint.file().read(at, part));
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

std::vector<std::string> checkpoints_in(const std::string& folder) {
  std::vector<std::pair<int64_t, std::string>> before;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (const int64_t step = step_in(name); step >= 0) before.emplace_back(step, folder + "/" + name);
  }
  std::ranges::sort(before, std::greater<>());
  std::vector<std::string> paths;
  if (is_file(folder + kCheckpointFile)) paths.push_back(folder + kCheckpointFile);
  for (auto& [step, path] : before) paths.push_back(std::move(path));
  return paths;
}

Result<void> verify_checkpoint(const SafetensorsFile& checkpoint) {
  const auto entries = checkpoint.entries();
  if (entries.empty() || entries.back().name != kHashes || entries.back().dtype != "U64")
    return damaged(checkpoint, "its hashes are missing");
  const SafetensorsEntry& last = entries.back();
  std::vector<uint64_t> stored(last.bytes / sizeof(uint64_t));
  CHECK_OK(checkpoint.file().read(last.offset, std::as_writable_bytes(std::span(stored))));
  if (stored.size() < 2 || stored.back() != hash_of(std::span(stored).first(stored.size() - 1)))
    return damaged(checkpoint, "its hashes are not those that were written");
  stored.pop_back();
  const std::vector<uint64_t> found = TRY(hash_file(checkpoint, entries.front().offset, last.offset));
  const auto [expected, other] = std::ranges::mismatch(stored, found);
  if (expected == stored.end() && other == found.end()) return {};
  const auto block = expected - stored.begin();
  return damaged(checkpoint, block == 0 ? "its header is not what was written"
                                        : fmt::format("its data is not what was written, from MiB {} on", block - 1));
}

Result<GoodCheckpoint> last_good_checkpoint(const std::string& folder,
                                            const std::function<void(const std::string&)>& note) {
  const std::vector<std::string> paths = checkpoints_in(folder);
  if (paths.empty()) return Failure(SafetensorsFile::open(folder + kCheckpointFile).error());
  std::vector<Error> errors;
  std::vector<std::string> passed_over;
  for (const std::string& path : paths) {
    auto file = SafetensorsFile::open(path);
    const Result<void> whole = file ? verify_checkpoint(*file) : Failure(file.error());
    if (!whole) {
      errors.push_back(whole.error());
      passed_over.push_back(path);
      continue;
    }
    for (const Error& error : errors)
      note(fmt::format("warning: {}; the one before it is used, {}", error.message, path));
    return GoodCheckpoint{*std::move(file), std::move(passed_over)};
  }
  return fail(errors.front().code, "{}; {}; begin anew, without --resume", errors.front().message,
              paths.size() == 1 ? "there is no other" : "nor is one of those before it whole");
}

Result<CheckpointWriter> CheckpointWriter::create(const std::string& folder, std::vector<SafetensorsTensor> tensors,
                                                  const std::map<std::string, std::string>& metadata) {
  int64_t bytes = 0;
  for (const SafetensorsTensor& tensor : tensors)
    bytes += tensor.shape.count() * static_cast<int64_t>(safetensors_element_bytes(tensor.dtype).value_or(0));
  const int64_t blocks = (bytes + kHashedBlock - 1) / kHashedBlock;
  tensors.push_back({kHashes, "U64", Shape{1 + blocks + 1}});
  return CheckpointWriter(folder, metadata.at("step"),
                          TRY(SafetensorsWriter::create(folder + kCheckpointFile, tensors, metadata)));
}

Result<void> CheckpointWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {  // what was hashed is still in a cache when it is written
    const auto part = bytes.first(std::min<size_t>(bytes.size(), kHashedBlock));
    hashes_.add(part);
    CHECK_OK(writer_.write(part));
    bytes = bytes.subspan(part.size());
  }
  return {};
}

// The newest so far gets the name of its step, unless it is of no use or of the same step.
Result<void> CheckpointWriter::put_aside(const Keep& keep) const {
  const std::string path = folder_ + kCheckpointFile;
  if (keep.count < 2 || std::ranges::find(keep.damaged, path) != keep.damaged.end()) return {};
  const auto newest = SafetensorsFile::open(path);
  const std::string step = newest ? metadata_text(*newest, "step") : "";
  if (step.empty() || step == step_ || TRY(metadata_number(*newest, "step")) < 0) return {};
  return rename_file(path, fmt::format("{}/{}{}{}", folder_, kBefore, step, kSuffix));
}

Result<void> CheckpointWriter::finish(const Keep& keep) {
  std::vector<uint64_t> hashes = {writer_.header_hash()};
  const std::vector<uint64_t> blocks = hashes_.finish();
  hashes.insert(hashes.end(), blocks.begin(), blocks.end());
  hashes.push_back(hash_of(hashes));
  CHECK_OK(writer_.write(std::as_bytes(std::span(hashes))));
  CHECK_OK(writer_.sync());
  CHECK_OK(put_aside(keep));
  CHECK_OK(writer_.finish());
  const std::vector<std::string> there = checkpoints_in(folder_);
  int64_t kept = 1;
  for (const std::string& path : std::span(there).subspan(1))
    if (std::ranges::find(keep.damaged, path) != keep.damaged.end() || ++kept > keep.count) CHECK_OK(remove_file(path));
  return {};
}

}  // namespace thimble
