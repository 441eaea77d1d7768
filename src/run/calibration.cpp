#include "run/calibration.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "disk/scratch.h"
#include "files/file.h"

namespace thimble {
namespace {

using Json = nlohmann::json;

constexpr int kRounds = 5;                // the best counts: other programs can only slow a round down
constexpr int64_t kDiskBytes = 96 << 20;  // moved each way
constexpr int64_t kDiskTransfer = 1 << 20;
constexpr int kDiskTogether = 4;

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  return "unknown";
}

Json read_cache() {
  std::ifstream file(calibration_path());
  Json json = Json::parse(file, nullptr, false);
  if (!json.is_object()) json = Json::object();
  for (const char* section : {"speeds", "disks"})
    if (!json[section].is_object()) json[section] = Json::object();
  return json;
}

void write_cache(const Json& json) {
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(calibration_path()).parent_path(), error);
  const std::string text = json.dump(2) + "\n";
  if (auto file = OutputFile::create(calibration_path()))
    if (file->write(std::as_bytes(std::span(text)))) (void)file->commit();
}

// A positive number of the cache, or 0.
double number(const Json& json, const char* name) {
  return json.contains(name) && json[name].is_number() ? std::max(0.0, json[name].get<double>()) : 0;
}

bool read_speeds(const Json& json, Machine& m) {
  if (!json.is_object()) return false;
  m.f32_flops = number(json, "f32_flops"), m.bf16_flops = number(json, "bf16_flops");
  m.bandwidth = number(json, "bandwidth"), m.decode = number(json, "decode");
  return m.f32_flops > 0 && m.bandwidth > 0 && m.decode > 0 && (m.bf16_flops > 0) == multiplies(Multiply::bf16);
}

Json measure_speeds(Threads& threads, Machine& m) {
  m = probe_machine(threads);
  for (int round = 1; round < kRounds; ++round) {
    const Machine again = probe_machine(threads);
    m.f32_flops = std::max(m.f32_flops, again.f32_flops);
    m.bf16_flops = std::max(m.bf16_flops, again.bf16_flops);
    m.bandwidth = std::max(m.bandwidth, again.bandwidth);
    m.decode = std::max(m.decode, again.decode);
  }
  return {{"f32_flops", m.f32_flops}, {"bf16_flops", m.bf16_flops}, {"bandwidth", m.bandwidth}, {"decode", m.decode}};
}

// Bytes a second with as much read as written, several transfers under way.
Result<double> measure_disk(Threads& threads, const std::string& folder) {
  const auto scratch = TRY(Scratch::create({.folder = folder, .bytes = 2 * kDiskBytes}, threads));
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(
      static_cast<std::byte*>(std::aligned_alloc(kDiskAlignment, 2 * kDiskTogether * kDiskTransfer)), std::free);
  std::memset(memory.get(), 1, 2 * kDiskTogether * kDiskTransfer);
  const auto block = [&](int i) {
    return std::span(memory.get() + i * kDiskTransfer, static_cast<size_t>(kDiskTransfer));
  };
  for (int64_t at = 0; at < kDiskBytes; at += kDiskTransfer) CHECK_OK(scratch->write(at, block(0)));
  const auto begin = std::chrono::steady_clock::now();
  for (int64_t at = 0; at < kDiskBytes; at += kDiskTogether * kDiskTransfer) {
    std::array<int, 2 * kDiskTogether> under_way;
    for (int i = 0; i < kDiskTogether; ++i) {
      under_way[static_cast<size_t>(2 * i)] = scratch->begin_read(at + i * kDiskTransfer, block(2 * i));
      under_way[static_cast<size_t>(2 * i + 1)] =
          scratch->begin_write(kDiskBytes + at + i * kDiskTransfer, block(2 * i + 1));
    }
    for (int transfer : under_way) CHECK_OK(scratch->finish(transfer));
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return 2 * static_cast<double>(kDiskBytes) / seconds;
}

// The file system that a folder, or the nearest one above it that exists, is on.
std::string device_of(std::filesystem::path folder) {
  struct stat status;
  while (stat(folder.c_str(), &status) != 0) {
    if (!folder.has_parent_path() || folder == folder.parent_path()) return "unknown";
    folder = folder.parent_path();
  }
  return std::to_string(status.st_dev);
}

}  // namespace

std::string calibration_path() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache)
    return std::string(cache) + "/thimble/machine.json";
  const char* home = std::getenv("HOME");
  return std::string(home ? home : "/tmp") + "/.cache/thimble/machine.json";
}

Machine calibrated_machine(Threads& threads, const std::string& folder, bool anew) {
  Json cache = read_cache();
  Machine machine;
  const std::string key = fmt::format("{}, {} threads", cpu_model(), threads.count());
  bool changed = false;
  if (anew || !read_speeds(cache["speeds"][key], machine)) {
    cache["speeds"][key] = measure_speeds(threads, machine);
    changed = true;
  }
  if (!folder.empty()) {
    const std::string device = device_of(std::filesystem::absolute(folder));
    double disk = anew ? 0 : number(cache["disks"], device.c_str());
    if (disk == 0) {
      const auto measured = measure_disk(threads, folder);
      disk = measured ? *measured : 0;
      if (disk > 0) cache["disks"][device] = disk;
      changed |= disk > 0;
    }
    if (disk > 0) machine.disk = disk;
  }
  if (changed) write_cache(cache);
  return machine;
}

}  // namespace thimble
