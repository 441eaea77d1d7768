// What a run tells: one JSON object a line with --json, a progress bar on a terminal, plain lines elsewhere. Every event
// is also a line of events.jsonl in the run's folder, of which the report is made.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "files/file.h"
#include "plan/ledger.h"

namespace thimble {

struct StepEvent {
  int64_t step = 0, steps = 0;  // step counts from 1
  double loss = 0, learning_rate = 0, grad_norm = 0, tokens_per_second = 0, seconds = 0;
  int64_t tokens = 0;
  int64_t peak_rss_bytes = 0;
};

struct EvalEvent {
  int64_t step = 0;
  double nll = 0, perplexity = 0;
  int64_t tokens = 0;
};

class Events {
 public:
  explicit Events(bool json);

  void plan(const Ledger& ledger);
  // From here on every event is also written to the file; the plan is, at once. `keep`: after what it holds already.
  Result<void> open_log(const std::string& path, bool keep);
  // A line of the log alone: a JSON object.
  void log(const std::string& json);

  void step(const StepEvent& event);
  void eval(const EvalEvent& event);
  // Called after every step, before anything is printed.
  void on_step(std::function<void(const StepEvent&)> watcher) { watcher_ = std::move(watcher); }
  void note(const std::string& text);   // on stderr
  // An event of another kind; fields: the inside of a JSON object.
  void event(const char* kind, const std::string& json_fields, const std::string& text);
  void done(const std::string& json_fields, const std::string& text) { event("done", json_fields, text); }
  // A line that the next one takes the place of; on a terminal only.
  void progress(const std::string& text);

  const StepEvent& last_step() const { return last_; }

 private:
  void tell(const std::string& json);
  void progress(const StepEvent& event);
  void finish_line();
  std::function<void(const StepEvent&)> watcher_;
  bool json_;
  bool terminal_;
  bool open_line_ = false;
  int columns_ = 80;
  Ledger ledger_;
  std::string plan_;  // the event
  std::chrono::steady_clock::time_point start_;
  int64_t told_ = 0;  // steps
  StepEvent last_;
  std::optional<AppendFile> log_;
};

// Text as a JSON string, quotes included.
std::string json_quoted(const std::string& text);

}  // namespace thimble
