// calibrate: measures what the machine does in a second, and keeps it for every later plan.

#include "commands/command.h"
#include "commands/command_line.h"
#include "core/count.h"
#include "disk/scratch_file.h"
#include "run/calibration.h"
#include "run/setup.h"
#include "text/json_output.h"

namespace thimble {
namespace {

struct Flags {
  std::string scratch = ".";
  int threads = 0;
  bool json = false;
};

std::string machine_json(const Machine& m, int threads, bool disk) {
  const auto list = [](const ProductSpeeds& speeds) {
    std::string out;
    for (double speed : speeds) out += fmt::format("{}{:.4g}", out.empty() ? "" : ",", speed);
    return "[" + out + "]";
  };
  return fmt::format(
      "{{\"threads\":{},\"f32_flops\":{:.4g},\"bf16_flops\":{:.4g},\"f32_products\":{},\"bf16_products\":{},"
      "\"memory_bytes_per_second\":{:.4g},\"moved_bytes_per_second\":{:.4g},\"updated_bytes_per_second\":{:.4g},"
      "\"decoded_per_second\":{:.4g},\"disk_read_bytes_per_second\":{:.4g},\"disk_write_bytes_per_second\":{:.4g},"
      "\"file\":{}}}",
      threads, m.product_flops(Multiply::f32), m.product_flops(Multiply::bf16), list(m.f32), list(m.bf16), m.bandwidth,
      m.moved, m.updated, m.decode, disk ? m.disk.read : 0, disk ? m.disk.write : 0, json_string(calibration_path()));
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<Flags>();
  command.add("--scratch", flags->scratch, "folder on the disk to be measured; none: no disk").shows_default();
  command.add("--threads", flags->threads, "0: one a CPU");
  command.add("--json", flags->json, "one JSON object");
  return [flags]() -> Result<void> {
    const bool disk = flags->scratch != "none";
    if (disk) CHECK_OK(ScratchFile::check(flags->scratch, 0));
    Threads threads(thread_count(flags->threads));
    const Machine m = calibrated_machine(threads, disk ? flags->scratch : "", Measure::anew);
    if (flags->json) {
      fmt::print("{}\n", machine_json(m, threads.count(), disk));
      return {};
    }
    fmt::print("{}; GFLOP/s of products, operands in f32 and bf16\n", counted(threads.count(), "thread"));
    for (size_t use = 0; use < kProductUses; ++use)
      fmt::print("  {:<18} {:8.1f} {:8.1f}\n", kProductUseNames[use], m.f32[use] * 1e-9, m.bf16[use] * 1e-9);
    fmt::print(
        "  8 MB, read         {:8.1f} GB/s\n  activations        {:8.1f} GB/s\n  updates            {:8.1f} GB/s\n",
        m.bandwidth * 1e-9, m.moved * 1e-9, m.updated * 1e-9);
    fmt::print("  q4_1 decoding      {:8.1f} G elements/s\n  an operation       {:8.1f} us\n", m.decode * 1e-9,
               1e6 / m.calls);
    if (disk)
      fmt::print("  disk, read         {:8.2f} GB/s\n  disk, write        {:8.2f} GB/s ({}; as beside each other)\n",
                 m.disk.read * 1e-9, m.disk.write * 1e-9, flags->scratch);
    if (!calibration_path().empty()) fmt::print("kept in {}\n", calibration_path());
    return {};
  };
}

}  // namespace

const Command kCalibrate = {"calibrate", "measure the speeds that plans are made with", add, true};

}  // namespace thimble
