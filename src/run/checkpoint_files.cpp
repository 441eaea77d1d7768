#include "run/checkpoint_files.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "run/resume.h"

namespace thimble {
namespace {

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

}  // namespace

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
  std::vector<std::byte> buffer(kHashedBlock);
  return verify_sealed(checkpoint, "this checkpoint", buffer);
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
  return CheckpointWriter(folder, metadata.at("step"),
                          TRY(SealedWriter::create(folder + kCheckpointFile, std::move(tensors), metadata)));
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
