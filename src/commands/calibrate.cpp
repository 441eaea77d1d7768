// calibrate: measures what the machine does in a second, and keeps it for every later plan.
#include "commands/command.h"
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

std::function<Result<void>()> add(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  app.add_option("--scratch", flags->scratch, "folder on the disk to be measured; none: no disk")
      ->capture_default_str();
  app.add_option("--threads", flags->threads, "0: one a CPU");
  app.add_flag("--json", flags->json, "one JSON object");
  return [flags]() -> Result<void> {
    Threads threads(thread_count(flags->threads));
    const bool disk = flags->scratch != "none";
    const Machine m = calibrated_machine(threads, disk ? flags->scratch : "", true);
    if (flags->json) {
      fmt::print(
          "{{\"threads\":{},\"f32_flops\":{:.4g},\"bf16_flops\":{:.4g},\"memory_bytes_per_second\":{:.4g},"
          "\"decoded_per_second\":{:.4g},\"disk_bytes_per_second\":{:.4g},\"file\":{}}}\n",
          threads.count(), m.f32_flops, m.bf16_flops, m.bandwidth, m.decode, disk ? m.disk : 0,
          json_string(calibration_path()));
      return {};
    }
    fmt::print("{} threads\n  f32 products   {:8.1f} GFLOP/s\n  bf16 products  {:8.1f} GFLOP/s\n", threads.count(),
               m.f32_flops * 1e-9, m.bf16_flops * 1e-9);
    fmt::print("  memory, read   {:8.1f} GB/s\n  q4_1 decoding  {:8.1f} G elements/s\n", m.bandwidth * 1e-9,
               m.decode * 1e-9);
    if (disk) fmt::print("  disk, mixed    {:8.2f} GB/s ({})\n", m.disk * 1e-9, flags->scratch);
    fmt::print("kept in {}\n", calibration_path());
    return {};
  };
}

}  // namespace

const Command kCalibrate = {"calibrate", "measure the speeds that plans are made with", add};

}  // namespace thimble
