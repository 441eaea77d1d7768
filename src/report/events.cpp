#include "report/events.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "core/count.h"
#include "core/printable.h"
#include "text/json_output.h"

namespace thimble {
namespace {

// JSON has no infinities; null stands for them.
std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.9g}", value) : "null"; }

std::string duration(double seconds) {
  const int64_t s = std::llround(seconds);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

std::string plan_event(const Ledger& ledger) {
  std::string items, choices;
  for (const LedgerItem& item : ledger.items)
    items += fmt::format("{}{{\"name\":{},\"bytes\":{},\"home\":{}}}", items.empty() ? "" : ",", json_string(item.name),
                         item.bytes, json_string(item.home));
  for (const std::string& choice : ledger.choices)
    choices.append(choices.empty() ? "" : ",").append(json_string(choice));
  return fmt::format(
      "{{\"event\":\"plan\",\"planned_peak_bytes\":{},\"budget_bytes\":{},\"predicted_step_seconds\":{},"
      "\"least_step_seconds\":{},\"planning_seconds\":{},\"scratch_bytes\":{},\"disk_read_bytes\":{},\"disk_written_"
      "bytes\":{},"
      "\"numerics_hash\":{},\"ledger\":[{}],\"choices\":[{}]}}",
      ledger.planned_bytes, ledger.budget_bytes, number(ledger.step_seconds), number(ledger.least_step_seconds),
      number(ledger.planning_seconds), ledger.scratch_bytes, ledger.read_bytes, ledger.written_bytes,
      json_string(ledger.numerics_hash), items, choices);
}

// TRL's keys.
std::string rewards_json(const Rewards& rewards) {
  if (rewards.terms() == 0) return "";
  if (rewards.pairs > 0)
    return fmt::format(",\"pairs\":{},\"rewards/accuracies\":{},\"rewards/margins\":{}", rewards.pairs,
                       number(rewards.accuracy()), number(rewards.mean_margin()));
  std::string text = fmt::format(",\"replies\":{},\"kl\":{}", rewards.terms(), number(rewards.drift));
  if (rewards.wanted > 0)
    text += fmt::format(",\"rewards/chosen\":{}", number(rewards.of_wanted / static_cast<double>(rewards.wanted)));
  if (rewards.unwanted > 0)
    text +=
        fmt::format(",\"rewards/rejected\":{}", number(rewards.of_unwanted / static_cast<double>(rewards.unwanted)));
  if (rewards.wanted > 0 && rewards.unwanted > 0)
    text += fmt::format(",\"rewards/margins\":{}", number(rewards.mean_margin()));
  return text;
}

std::string rewards_text(const Rewards& rewards) {
  if (rewards.terms() == 0) return "";
  if (rewards.pairs > 0)
    return fmt::format("  preferred {:.0f} %  margin {:+.3f}", 100 * rewards.accuracy(), rewards.mean_margin());
  return fmt::format("  margin {:+.3f}  drift {:.3f}", rewards.mean_margin(), rewards.drift);
}

}  // namespace

bool draws_on(int descriptor) {
  const char* const term = std::getenv("TERM");
  return isatty(descriptor) != 0 && term && *term && std::string_view(term) != "dumb";
}

int terminal_columns(int descriptor) {
  winsize size{};
  return ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20 ? size.ws_col : 80;
}

Events::Events(Form form)
    : form_(form),
      terminal_(form == Form::text && draws_on(STDOUT_FILENO)),
      columns_(terminal_ ? terminal_columns(STDOUT_FILENO) : 80),
      start_(std::chrono::steady_clock::now()) {}

Events Events::silent(std::function<void(const std::string&)> note) {
  Events events(Form::silent);
  events.note_ = std::move(note);
  return events;
}

void Events::finish_line() {
  if (open_line_) std::fputs("\n", stdout);
  open_line_ = false;
}

void Events::log(const std::string& json) {
  if (!log_) return;
  const Result<void> written = log_->write(json + "\n");
  if (written) return;
  log_.reset();
  note("warning: " + written.error().message + "; the report will lack what follows");
}

// The event as JSON: to the log, and on stdout with --json.
void Events::tell(const std::string& json) {
  log(json);
  if (form_ == Form::json) fmt::print("{}\n", json);
}

void Events::plan(const Ledger& ledger) {
  ledger_ = ledger;
  plan_ = plan_event(ledger);
  tell(plan_);
  if (form_ == Form::text) fmt::print("{}", ledger.text(columns_));
  std::fflush(stdout);
}

Result<void> Events::open_log(const std::string& path, bool keep) {
  log_ = TRY(AppendFile::open(path, keep));
  log(plan_);
  for (const std::string& json : std::exchange(facts_, {})) log(json);
  return {};
}

void Events::step(const StepEvent& e) {
  if (told_++ == 0)  // time left is counted from the first step on: loading and the first evaluation are over
    start_ = std::chrono::steady_clock::now() -
             std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(e.seconds));
  last_ = e;
  if (watcher_) watcher_(e);
  tell(fmt::format(
      "{{\"event\":\"step\",\"step\":{},\"steps\":{},\"loss\":{},\"learning_rate\":{},\"grad_norm\":{},\"tokens\":{},"
      "\"tokens_per_second\":{},\"seconds\":{},\"predicted_step_seconds\":{},\"peak_rss_bytes\":{},"
      "\"planned_peak_bytes\":{},\"numerics_hash\":{}{}}}",
      e.step, e.steps, number(e.loss), number(e.learning_rate), number(e.grad_norm), e.tokens,
      number(e.tokens_per_second), number(e.seconds), number(ledger_.step_seconds), e.peak_rss_bytes,
      ledger_.planned_bytes, json_string(ledger_.numerics_hash),
      rewards_json(e.rewards) + (e.balance > 0 ? fmt::format(",\"balance\":{}", number(e.balance)) : "")));
  if (form_ == Form::text) show(e);
  std::fflush(stdout);
}

void Events::show(const StepEvent& e) {
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double left = elapsed / static_cast<double>(told_) * static_cast<double>(e.steps - e.step);
  const std::string facts =
      fmt::format("{}/{}  loss {:.4f}{}  {:.0f} tok/s  {}  {} left", e.step, e.steps, e.loss,
                  rewards_text(e.rewards) + (e.balance > 0 ? fmt::format("  balance {:.4f}", e.balance) : ""),
                  e.tokens_per_second, megabytes(e.peak_rss_bytes), duration(left));
  if (!terminal_) {
    fmt::print("step {}\n", facts);
    return;
  }
  // One column stays free: a full line would wrap.
  const int width = std::min(40, columns_ - static_cast<int>(facts.size()) - 3);
  const std::string bar =
      width < 6 ? "" : bar_text(static_cast<double>(e.step) / static_cast<double>(e.steps), width) + "  ";
  fmt::print("\r\033[K{}{}", bar, facts.substr(0, static_cast<size_t>(std::max(1, columns_ - 1))));
  open_line_ = true;
}

std::string labels_json(const LabelledTexts& labels) {
  const std::string first = labels.numbers ? fmt::format("\"squared_error\":{},\"pearson\":{}",
                                                         number(labels.squared_error), number(labels.pearson))
                                           : fmt::format("\"accuracy\":{}", number(labels.accuracy));
  return fmt::format("{},\"texts\":{}", first, labels.texts);
}

std::string labels_text(const LabelledTexts& labels) {
  const std::string texts = counted(labels.texts, "text");
  return labels.numbers ? fmt::format("squared error {:.5f}  correlation {:.4f}  ({})", labels.squared_error,
                                      labels.pearson, texts)
                        : fmt::format("accuracy {:.2f} %  ({})", 100 * labels.accuracy, texts);
}

void Events::eval(const EvalEvent& e) {
  finish_line();
  if (eval_watcher_) eval_watcher_(e);
  if (e.labels.texts > 0) {
    tell(fmt::format("{{\"event\":\"eval\",\"step\":{},\"nll\":{},{}}}", e.step, number(e.nll), labels_json(e.labels)));
    if (form_ == Form::text) fmt::print("eval at step {}: loss {:.4f}  {}\n", e.step, e.nll, labels_text(e.labels));
    std::fflush(stdout);
    return;
  }
  if (e.rewards.terms() > 0) {
    tell(fmt::format("{{\"event\":\"eval\",\"step\":{},\"nll\":{},\"tokens\":{}{}}}", e.step, number(e.nll), e.tokens,
                     rewards_json(e.rewards)));
    if (form_ == Form::text)
      fmt::print(
          "eval at step {}: loss {:.4f}{}  ({})\n", e.step, e.nll, rewards_text(e.rewards),
          e.rewards.pairs > 0 ? counted(e.rewards.pairs, "pair") : counted(e.rewards.terms(), "reply", "replies"));
    std::fflush(stdout);
    return;
  }
  tell(fmt::format("{{\"event\":\"eval\",\"step\":{},\"nll\":{},\"perplexity\":{},\"tokens\":{}}}", e.step,
                   number(e.nll), number(e.perplexity), e.tokens));
  if (form_ == Form::text)
    fmt::print("eval at step {}: nll {:.4f}  perplexity {:.3f}  ({})\n", e.step, e.nll, e.perplexity,
               counted(e.tokens, "token"));
  std::fflush(stdout);
}

void Events::note(const std::string& text) {
  if (note_) return note_(text);
  finish_line();
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", printable(text));
}

void Events::event(const char* kind, const std::string& json_fields, const std::string& text) {
  finish_line();
  tell(fmt::format("{{\"event\":\"{}\",{}}}", kind, json_fields));
  if (form_ == Form::text) fmt::print("{}\n", printable(text));
  std::fflush(stdout);
}

void Events::fact(const char* kind, const std::string& json_fields) {
  const std::string json = fmt::format("{{\"event\":\"{}\",{}}}", kind, json_fields);
  if (!log_) facts_.push_back(json);
  finish_line();
  tell(json);
  std::fflush(stdout);
}

Result<void> Events::end(Result<void> result) {
  if (result) return result;
  const Error& error = result.error();
  finish_line();
  tell(fmt::format("{{\"event\":\"{}\",\"code\":\"{}\",\"message\":{}}}",
                   error.code == ErrorCode::cancelled ? "stopped" : "error", code_name(error.code),
                   json_string(error.message)));
  std::fflush(stdout);
  return result;
}

void Events::progress(const std::string& text) {
  if (!terminal_) return;
  fmt::print("\r\033[K{}", text);
  std::fflush(stdout);
  open_line_ = true;
}

}  // namespace thimble
