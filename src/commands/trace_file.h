// A trace as a file for chrome://tracing or Perfetto (Trace Event Format, JSON), with what it comes to.
#pragma once

#include <string>

#include "core/result.h"
#include "core/trace.h"

namespace thimble {

// How the threads spent the time that all rows of a trace cover. A thread waits where it is in no part of a call; the
// first, only where it waits for the others: what it does between calls, it does alone.
struct TraceSummary {
  int threads = 0;
  uint64_t lost = 0;  // spans before that time, which were recorded over
  double seconds = 0;
  double waiting = 0;  // part of the threads' time
  double alone = 0;    // part of `seconds` in which the first thread works alone
  struct Operation {
    std::string_view name;
    int64_t calls = 0;
    double seconds = 0;  // of the first thread
    double waiting = 0, alone = 0;
  };
  std::vector<Operation> operations;  // the longest first
};
TraceSummary summarise(const Trace& trace);

// Before anything is done: errors where the file could not be written, or is there already and is no trace, an input
// say.
Result<void> check_trace_output(const std::string& path);

// Errors: io.
Result<void> write_trace(const Trace& trace, const TraceSummary& summary, const std::string& path);

// One line for people.
std::string trace_line(const TraceSummary& summary, const std::string& path);

}  // namespace thimble
