#include "run/events.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace thimble {
namespace {

// JSON has no infinities; null stands for them.
std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.9g}", value) : "null"; }

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", c);
    else
      out += c;
  }
  return out + "\"";
}

std::string duration(double seconds) {
  const int64_t s = static_cast<int64_t>(seconds + 0.5);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60) : fmt::format("{}:{:02}", s / 60, s % 60);
}

}  // namespace

Events::Events(bool json) : json_(json), terminal_(!json && isatty(STDOUT_FILENO)), start_(std::chrono::steady_clock::now()) {
  winsize size{};
  if (terminal_ && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) columns_ = size.ws_col;
}

void Events::finish_line() {
  if (open_line_) std::fputs("\n", stdout);
  open_line_ = false;
}

void Events::plan(const Ledger& ledger) {
  planned_bytes_ = ledger.planned_bytes;
  if (!json_) {
    fmt::print("{}", ledger.text(columns_));
  } else {
    std::string items;
    for (const LedgerItem& item : ledger.items)
      items += fmt::format("{}{{\"name\":{},\"bytes\":{},\"home\":{}}}", items.empty() ? "" : ",", quoted(item.name), item.bytes, quoted(item.home));
    fmt::print("{{\"event\":\"plan\",\"planned_peak_bytes\":{},\"budget_bytes\":{},\"predicted_step_seconds\":{},\"numerics_hash\":{},\"ledger\":[{}]}}\n",
               ledger.planned_bytes, ledger.budget_bytes, number(ledger.step_seconds), quoted(ledger.numerics_hash), items);
  }
  std::fflush(stdout);
  start_ = std::chrono::steady_clock::now();
}

void Events::step(const StepEvent& e) {
  steps_.push_back(e);
  if (watcher_) watcher_(e);
  if (json_) {
    fmt::print("{{\"event\":\"step\",\"step\":{},\"loss\":{},\"learning_rate\":{},\"grad_norm\":{},\"tokens\":{},\"tokens_per_second\":{},\"seconds\":{},\"peak_rss_bytes\":{}}}\n",
               e.step, number(e.loss), number(e.learning_rate), number(e.grad_norm), e.tokens, number(e.tokens_per_second), number(e.seconds), e.peak_rss_bytes);
  } else {
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double left = elapsed / static_cast<double>(steps_.size()) * static_cast<double>(e.steps - e.step);
    const std::string facts = fmt::format("step {}/{}  loss {:.4f}  {:.0f} tok/s  {}  left {}", e.step, e.steps, e.loss, e.tokens_per_second,
                                          megabytes(e.peak_rss_bytes), duration(left));
    if (terminal_) {
      const int width = std::max(0, std::min(30, columns_ - static_cast<int>(facts.size()) - 4));
      std::string bar;
      for (int i = 0; i < width; ++i) bar += i < width * e.step / std::max<int64_t>(1, e.steps) ? "━" : "┄";
      fmt::print("\r\033[K{} {}", bar, facts);
      open_line_ = true;
    } else {
      fmt::print("{}\n", facts);
    }
  }
  std::fflush(stdout);
}

void Events::eval(const EvalEvent& e) {
  evals_.push_back(e);
  finish_line();
  if (json_)
    fmt::print("{{\"event\":\"eval\",\"step\":{},\"nll\":{},\"perplexity\":{},\"tokens\":{}}}\n", e.step, number(e.nll), number(e.perplexity), e.tokens);
  else
    fmt::print("eval at step {}: nll {:.4f}  perplexity {:.3f}  ({} tokens)\n", e.step, e.nll, e.perplexity, e.tokens);
  std::fflush(stdout);
}

void Events::note(const std::string& text) {
  finish_line();
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", text);
}

void Events::event(const char* kind, const std::string& json_fields, const std::string& text) {
  finish_line();
  if (json_)
    fmt::print("{{\"event\":\"{}\",{}}}\n", kind, json_fields);
  else
    fmt::print("{}\n", text);
  std::fflush(stdout);
}

void Events::progress(const std::string& text) {
  if (!terminal_) return;
  fmt::print("\r\033[K{}", text);
  std::fflush(stdout);
  open_line_ = true;
}

}  // namespace thimble
