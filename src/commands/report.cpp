// report: a run's report.html once more, with samples when there are some.
#include "report/report.h"

#include "commands/command.h"
#include "commands/command_line.h"

namespace thimble {
namespace {

struct Flags {
  std::string run;
  std::vector<std::string> samples;
};

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<Flags>();
  command.add("--run", flags->run, "folder of a run: its --out").required();
  command
      .add("--samples", flags->samples,
           "replies before and after, as eval --metric exact --out writes them: before.jsonl,after.jsonl")
      .delimiter(',');
  return [flags]() -> Result<void> {
    CHECK_OK(write_report(flags->run, flags->samples));
    fmt::print("{}{}\n", flags->run, kReportFile);
    return {};
  };
}

}  // namespace

const Command kReport = {"report", "write a run's report.html again, with samples of replies", add};

}  // namespace thimble
