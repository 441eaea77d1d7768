// report: a run's report.html once more, with samples when there are some.
#include "report/report.h"

#include <CLI/CLI.hpp>

#include "commands/command.h"

namespace thimble {
namespace {

struct Flags {
  std::string run;
  std::vector<std::string> samples;
};

std::function<Result<void>()> add(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  app.add_option("--run", flags->run, "folder of a run: its --out")->required();
  app.add_option("--samples", flags->samples,
                 "replies before and after, as eval --metric exact --out writes them: before.jsonl,after.jsonl")
      ->delimiter(',');
  return [flags]() -> Result<void> {
    CHECK_OK(write_report(flags->run, flags->samples));
    fmt::print("{}{}\n", flags->run, kReportFile);
    return {};
  };
}

}  // namespace

const Command kReport = {"report", "write a run's report.html again, with samples of replies", add};

}  // namespace thimble
