// The checkpoints of a run, in its --out. Each is written beside, synced and renamed, and holds hashes of all its
// bytes:
//
//   checkpoint.safetensors       the newest
//   checkpoint-120.safetensors   those before it, by the steps that were done
//
// A checkpoint is a safetensors file with hashes (sealed_file.h).
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "run/sealed_file.h"

namespace thimble {

inline constexpr const char* kCheckpointFile = "/checkpoint.safetensors";

// Paths of those in the folder, the newest first. One whose header cannot be read counts by its name, and
// checkpoint.safetensors as the newest.
std::vector<std::string> checkpoints_in(const std::string& folder);

struct GoodCheckpoint {
  SafetensorsFile file;
  std::vector<std::string> damaged;  // newer ones that were passed over
};

// The newest of the folder that is whole, every byte of which was checked. `note` hears which are damaged, and how. The
// error is that of the newest where none is whole.
Result<GoodCheckpoint> last_good_checkpoint(const std::string& folder,
                                            const std::function<void(const std::string&)>& note);

// Reads all of it: ErrorCode::corrupt where a byte is not what was written.
Result<void> verify_checkpoint(const SafetensorsFile& checkpoint);

class CheckpointWriter {
 public:
  // The tensors of the run; the hashes come beside them. metadata["step"]: the steps that were done.
  static Result<CheckpointWriter> create(const std::string& folder, std::vector<SafetensorsTensor> tensors,
                                         const std::map<std::string, std::string>& metadata);
  Result<void> write(std::span<const std::byte> bytes) { return writer_.write(bytes); }

  struct Keep {
    int64_t count = 1;                       // checkpoints in the end, this one included
    std::span<const std::string> damaged{};  // of no use to anyone
  };
  // On disk and in place, then those that are not kept are removed. Until then every earlier one is there.
  Result<void> finish(const Keep& keep);

 private:
  CheckpointWriter(std::string folder, std::string step, SealedWriter writer)
      : folder_(std::move(folder)), step_(std::move(step)), writer_(std::move(writer)) {}
  Result<void> put_aside(const Keep& keep) const;

  std::string folder_, step_;
  SealedWriter writer_;
};

}  // namespace thimble
