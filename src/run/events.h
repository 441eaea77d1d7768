// What a run tells: one JSON object a line with --json, a progress bar on a terminal, plain lines elsewhere. Every event
// is also kept for the report.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

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

  const std::vector<StepEvent>& steps() const { return steps_; }
  const std::vector<EvalEvent>& evals() const { return evals_; }
  void reserve(int64_t steps) { steps_.reserve(static_cast<size_t>(steps)), evals_.reserve(static_cast<size_t>(steps) + 2); }

 private:
  void finish_line();
  std::function<void(const StepEvent&)> watcher_;
  bool json_;
  bool terminal_;
  bool open_line_ = false;
  int columns_ = 80;
  int64_t planned_bytes_ = 0;
  std::chrono::steady_clock::time_point start_;
  std::vector<StepEvent> steps_;
  std::vector<EvalEvent> evals_;
};

}  // namespace thimble
