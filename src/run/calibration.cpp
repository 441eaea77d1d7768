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

#include "core/isa.h"
#include "disk/scratch.h"
#include "files/file.h"
#include "files/json.h"

namespace thimble {
namespace {

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
  const std::string path = calibration_path();
  const auto text = path.empty() ? Result<std::string>("") : read_text_file(path, 1 << 20);
  Json json = text ? parse_json(*text, path).value_or(Json()) : Json();
  if (!json.is_object()) json = Json::object();
  for (const char* section : {"speeds", "disks"})
    if (!json[section].is_object()) json[section] = Json::object();
  return json;
}

void write_cache(const Json& json) {
  const std::string path = calibration_path();
  if (path.empty() || !make_directories(std::filesystem::path(path).parent_path().string())) return;
  (void)write_text_file(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// A positive number of the cache, or 0.
double number(const Json& json, const char* name) {
  return json.contains(name) && json[name].is_number() ? std::max(0.0, json[name].get<double>()) : 0;
}

// What the cache holds of a machine, by name.
template <class Each>
void each_speed(Machine& m, const Each& each) {
  for (size_t use = 0; use < kProductUses; ++use) {
    each(fmt::format("f32 {}", kProductUseNames[use]), m.f32[use]);
    if (multiplies(Multiply::bf16)) each(fmt::format("bf16 {}", kProductUseNames[use]), m.bf16[use]);
  }
  each("bandwidth", m.bandwidth), each("moved", m.moved), each("updated", m.updated), each("decode", m.decode);
  each("encode", m.encode), each("draw", m.draw), each("calls", m.calls);
}

bool read_speeds(const Json& json, Machine& m) {
  bool complete = json.is_object();
  each_speed(m, [&](const std::string& name, double& speed) {
    speed = complete ? number(json, name.c_str()) : 0;
    complete &= speed > 0;
  });
  return complete;
}

bool read_disk(const Json& json, DiskSpeed& disk) {
  if (!json.is_object() || number(json, "read") == 0 || number(json, "write") == 0) return false;
  disk = {number(json, "read"), number(json, "write")};
  return true;
}

Json measure_speeds(Threads& threads, Machine& m) {
  Json json;
  m = probe_machine(threads);
  for (int round = 0; round < kRounds; ++round) {
    Machine again = round ? probe_machine(threads) : m;
    each_speed(again, [&](const std::string& name, double speed) {
      json[name] = std::max(speed, round ? json[name].get<double>() : 0);
    });
  }
  read_speeds(json, m);
  return json;
}

// Moves kDiskBytes to the first half of a scratch file, from it, and both at once, to the second half: seconds.
class DiskProbe {
 public:
  explicit DiskProbe(Scratch& scratch)
      : scratch_(scratch),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kDiskAlignment, 2 * kDiskTogether * kDiskTransfer)),
                std::free) {
    if (!memory_) throw std::bad_alloc();
    std::memset(memory_.get(), 1, 2 * kDiskTogether * kDiskTransfer);
  }

  // write_from: offset in the file.
  Result<double> seconds(bool reads, bool writes, int64_t write_from) {
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t at = 0; at < kDiskBytes; at += kDiskTogether * kDiskTransfer) {
      std::vector<int> under_way;
      for (int i = 0; i < kDiskTogether; ++i) {
        const int64_t from = at + i * kDiskTransfer;
        if (reads) under_way.push_back(scratch_.begin_read(from, block(2 * i)));
        if (writes) under_way.push_back(scratch_.begin_write(write_from + from, block(2 * i + 1)));
      }
      for (int transfer : under_way) CHECK_OK(scratch_.finish(transfer));
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

 private:
  std::span<std::byte> block(int i) const {
    return {memory_.get() + i * kDiskTransfer, static_cast<size_t>(kDiskTransfer)};
  }
  Scratch& scratch_;
  std::unique_ptr<std::byte, decltype(&std::free)> memory_;
};

// Speeds that, one transfer after another, take as long as reading and writing do beside each other.
Result<DiskSpeed> measure_disk(Threads& threads, const std::string& folder) {
  const auto scratch = TRY(Scratch::create({.folder = folder, .bytes = 2 * kDiskBytes}, threads));
  DiskProbe probe(*scratch);
  const double write = TRY(probe.seconds(false, true, 0)), read = TRY(probe.seconds(true, false, 0)),
               mixed = TRY(probe.seconds(true, true, kDiskBytes));
  const double speed = static_cast<double>(kDiskBytes) * (read + write) / mixed;
  return DiskSpeed{speed / read, speed / write};
}

// The file system that a folder is on.
std::string device_of(const std::string& folder) {
  struct stat status;
  return stat(folder.c_str(), &status) == 0 ? std::to_string(status.st_dev) : "unknown";
}

}  // namespace

std::string cache_folder() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache) return std::string(cache) + "/thimble";
  const char* home = std::getenv("HOME");
  return home && *home ? std::string(home) + "/.cache/thimble" : "";
}

std::string calibration_path() {
  const std::string folder = cache_folder();
  return folder.empty() ? "" : folder + "/machine.json";
}

Machine calibrated_machine(Threads& threads, const std::string& folder, Measure measure) {
  Json cache = read_cache();
  Machine machine;
  const std::string key = fmt::format("{}, {}, {} threads", cpu_model(), isa_name(), threads.count());
  const bool anew = measure == Measure::anew;
  bool changed = false;
  if (anew || !read_speeds(cache["speeds"][key], machine)) {
    cache["speeds"][key] = measure_speeds(threads, machine);
    changed = true;
  }
  if (!folder.empty()) {
    const std::string existing = nearest_folder(folder);
    Json& disk = cache["disks"][device_of(existing)];
    if (anew || (!read_disk(disk, machine.disk) && measure != Measure::no_disk))
      if (const auto measured = measure_disk(threads, existing)) {
        machine.disk = *measured;
        disk = {{"read", measured->read}, {"write", measured->write}};
        changed = true;
      }
  }
  if (changed) write_cache(cache);
  return machine;
}

}  // namespace thimble
