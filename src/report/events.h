// What a run tells: one JSON object a line with --json, a progress bar on a terminal, plain lines elsewhere. Every
// event is also a line of events.jsonl in the run's folder, of which the report is made.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "files/file.h"
#include "plan/ledger.h"
#include "thimble/events.h"

namespace thimble {

// A terminal that knows escape sequences (TERM is neither empty nor "dumb").
bool draws_on(int descriptor);
// 80 where it is no terminal, or one that does not say.
int terminal_columns(int descriptor);

// An evaluation of labelled texts: the inside of a JSON object, and as text.
std::string labels_json(const LabelledTexts& labels);
std::string labels_text(const LabelledTexts& labels);

class Events {
 public:
  explicit Events(bool json) : Events(json ? Form::json : Form::text) {}
  // Nothing is printed: `note` gets what would be a note, the watchers get the rest.
  static Events silent(std::function<void(const std::string& text)> note);

  void plan(const Ledger& ledger);
  // From here on every event is also written to the file; the plan is, at once. `keep`: after what it holds already.
  Result<void> open_log(const std::string& path, bool keep);
  // A line of the log alone: a JSON object.
  void log(const std::string& json);

  void step(const StepEvent& event);
  void eval(const EvalEvent& event);
  // Called after every step, before anything is printed.
  void on_step(std::function<void(const StepEvent&)> watcher) { watcher_ = std::move(watcher); }
  void on_eval(std::function<void(const EvalEvent&)> watcher) { eval_watcher_ = std::move(watcher); }
  void note(const std::string& text);  // on stderr, unless silent
  // An event of another kind; fields: the inside of a JSON object.
  void event(const char* kind, const std::string& json_fields, const std::string& text);
  // The same as JSON alone: what notes have said to people.
  void fact(const char* kind, const std::string& json_fields);
  void done(const std::string& json_fields, const std::string& text) { event("done", json_fields, text); }
  // What stands for `done` where there is an error: `stopped` or `error`. Hands the result on.
  Result<void> end(Result<void> result);
  // A line that the next one takes the place of; on a terminal only.
  void progress(const std::string& text);

  const StepEvent& last_step() const { return last_; }

 private:
  void tell(const std::string& json);
  void show(const StepEvent& event);
  void finish_line();
  std::function<void(const StepEvent&)> watcher_;
  std::function<void(const EvalEvent&)> eval_watcher_;
  std::function<void(const std::string&)> note_;
  enum class Form { text, json, silent };
  explicit Events(Form form);
  Form form_;
  bool terminal_;
  bool open_line_ = false;
  int columns_;
  Ledger ledger_;
  std::string plan_;                // the event
  std::vector<std::string> facts_;  // told before there was a log
  std::chrono::steady_clock::time_point start_;
  int64_t told_ = 0;  // steps
  StepEvent last_;
  std::optional<AppendFile> log_;
};

}  // namespace thimble
