// Reading events.jsonl back: what the report is made of.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "plan/profile.h"
#include "report/events.h"

namespace thimble {

constexpr const char* kEventsFile = "/events.jsonl";
constexpr size_t kLogPoints = 2000;  // most steps, and evaluations, that are held of a log

struct RunPoint {
  int step = 0;
  float loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0;
};

struct RunLog {
  std::vector<std::pair<std::string, std::string>> settings;  // of the recipe, as text; unset ones left out
  Ledger ledger;
  std::vector<ProfilePoint> profile;
  std::vector<RunPoint> points;  // evenly thinned
  std::vector<EvalEvent> evals;
  StepEvent last;
  int64_t peak_rss_bytes = 0;  // highest that any step reported
  int64_t unreadable = 0;      // lines left out
};

// Streams the file. A step that is told twice (a run resumed from an earlier checkpoint) counts as it was told last.
Result<RunLog> read_run_log(const std::string& path);

// Of the steps that are held; 0 where there are none.
double median_seconds(const RunLog& log);

// Leaves out what a resumed run will tell again: steps after `step`, evaluations after that of step `evaluated`, the
// end of the run, and a line that a crash cut off. A log that is not there is none to change.
Result<void> drop_events_after(const std::string& path, int64_t step, int64_t evaluated);

// Calls `line` for every line; those longer than `longest` bytes are handed over cut.
Result<void> for_each_line(const std::string& path, size_t longest,
                           const std::function<void(std::string_view line)>& line);

}  // namespace thimble
