// report.html: what a run did, as one page without anything from outside.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

constexpr const char* kReportFile = "/report.html";

// Writes `folder`/report.html from `folder`/events.jsonl. `samples`: at most two JSONL files of replies, before and
// after, line by line of the same prompts; each line an object with `prompt`, `reply` and, where known, `reference`, as
// `eval --metric exact --out` writes them.
Result<void> write_report(const std::string& folder, const std::vector<std::string>& samples = {});

}  // namespace thimble
