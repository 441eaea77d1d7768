#include "commands/trace_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <span>

#include "files/file.h"

namespace thimble {
namespace {

constexpr std::string_view kBegin = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n";

using Clock = Trace::Clock;

double seconds_of(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

// The time that every row covers: rings turn over at different times.
struct Window {
  Clock::time_point begin = Clock::time_point::min(), end = Clock::time_point::min();
  bool holds(const Trace::Span& span) const { return span.begin >= begin && span.end <= end; }
};

Window window_of(const std::vector<Trace::Row>& rows) {
  Window window;
  Clock::time_point first = Clock::time_point::max();
  for (const Trace::Row& row : rows) {
    if (row.spans.empty()) continue;
    // Spans are recorded when they end: one that began before the oldest kept may have been longer.
    if (row.lost > 0) window.begin = std::max(window.begin, row.spans.front().end);
    first = std::min(first, row.spans.front().begin);
    window.end = std::max(window.end, row.spans.back().end);
  }
  window.begin = std::max(window.begin, first);
  return window;
}

// Seconds of one operation, or of all.
struct Sums {
  int64_t calls = 0;
  double operation = 0, work = 0, first_work = 0, wait = 0;  // operation, first_work and wait: of the first thread
};

double alone(double seconds, const Sums& sums) { return std::max(0.0, seconds - sums.first_work - sums.wait); }

double waiting(double seconds, const Sums& sums, int threads) {
  const double all = seconds * threads;
  return all > 0 ? std::max(0.0, all - sums.work - alone(seconds, sums)) / all : 0;
}

}  // namespace

TraceSummary summarise(const Trace& trace) {
  const std::vector<Trace::Row> rows = trace.rows();
  const Window window = window_of(rows);
  TraceSummary summary{.threads = static_cast<int>(rows.size()), .seconds = seconds_of(window.end - window.begin)};
  Sums all;
  std::map<std::string_view, Sums> operations;
  for (size_t thread = 0; thread < rows.size(); ++thread) {
    summary.lost += rows[thread].lost;
    for (const Trace::Span& span : rows[thread].spans) {
      if (!window.holds(span)) continue;
      const double seconds = seconds_of(span.end - span.begin);
      for (Sums* sums : {&all, &operations[span.name]}) {
        if (span.kind == Trace::Kind::work) sums->work += seconds;
        if (thread > 0) continue;
        if (span.kind == Trace::Kind::work) sums->first_work += seconds;
        if (span.kind == Trace::Kind::wait) sums->wait += seconds;
        if (span.kind == Trace::Kind::operation) ++sums->calls, sums->operation += seconds;
      }
    }
  }
  summary.waiting = waiting(summary.seconds, all, summary.threads);
  summary.alone = summary.seconds > 0 ? alone(summary.seconds, all) / summary.seconds : 0;
  for (const auto& [name, sums] : operations)
    if (sums.calls > 0)
      summary.operations.push_back({name, sums.calls, sums.operation, waiting(sums.operation, sums, summary.threads),
                                    alone(sums.operation, sums) / std::max(sums.operation, 1e-12)});
  std::ranges::sort(summary.operations, std::greater{}, &TraceSummary::Operation::seconds);
  return summary;
}

std::string trace_line(const TraceSummary& summary, const std::string& path) {
  return fmt::format(
      "{}: what {} threads did in the last {:.2f} s{}: {:.1f} % of their time they waited, {:.1f} % of "
      "it one worked alone",
      path, summary.threads, summary.seconds, summary.lost > 0 ? " (what came before is not kept)" : "",
      100 * summary.waiting, 100 * summary.alone);
}

Result<void> check_trace_output(const std::string& path) {
  if (is_file(path)) {
    const InputFile file = TRY(InputFile::open(path));
    std::string begin(std::min<uint64_t>(kBegin.size(), file.size()), ' ');
    CHECK_OK(file.read(0, std::as_writable_bytes(std::span(begin))));
    if (begin != kBegin)
      return fail(ErrorCode::invalid_argument,
                  "--trace {}: there is a file of that name which is no trace; name another", path);
  }
  auto created = OutputFile::create(path);
  if (!created) return fail(ErrorCode::invalid_argument, "--trace {}: {}", path, created.error().message);
  created->discard();
  return {};
}

Result<void> write_trace(const Trace& trace, const TraceSummary& summary, const std::string& path) {
  constexpr std::string_view kKinds[] = {"operation", "work", "wait"};
  OutputFile file = TRY(OutputFile::create(path));
  const std::vector<Trace::Row> rows = trace.rows();
  const Window window = window_of(rows);
  std::string text(kBegin);
  for (size_t thread = 0; thread < rows.size(); ++thread) {
    fmt::format_to(
        std::back_inserter(text),
        "{}{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":1,\"tid\":{},\"args\":{{\"name\":\"thread {}\"}}}}",
        thread > 0 ? ",\n" : "", thread, thread);
    for (const Trace::Span& span : rows[thread].spans) {
      if (!window.holds(span)) continue;
      fmt::format_to(
          std::back_inserter(text),
          ",\n{{\"ph\":\"X\",\"name\":\"{}\",\"cat\":\"{}\",\"pid\":1,\"tid\":{},\"ts\":{:.3f},\"dur\":{:.3f}}}",
          span.kind == Trace::Kind::wait ? "wait"
          : span.name.empty()            ? "other"
                                         : span.name,
          kKinds[static_cast<size_t>(span.kind)], thread, 1e6 * seconds_of(span.begin - window.begin),
          1e6 * seconds_of(span.end - span.begin));
      if (text.size() < 1 << 16) continue;
      CHECK_OK(file.write(text));
      text.clear();
    }
  }
  fmt::format_to(
      std::back_inserter(text),
      "\n],\"otherData\":{{\"threads\":{},\"seconds\":{:.6f},\"lost\":{},\"waiting\":{:.5f},\"alone\":{:.5f},"
      "\"operations\":[",
      summary.threads, summary.seconds, summary.lost, summary.waiting, summary.alone);
  for (const TraceSummary::Operation& o : summary.operations)
    fmt::format_to(std::back_inserter(text),
                   "{}\n{{\"name\":\"{}\",\"calls\":{},\"seconds\":{:.6f},\"waiting\":{:.5f},\"alone\":{:.5f}}}",
                   &o == summary.operations.data() ? "" : ",", o.name, o.calls, o.seconds, o.waiting, o.alone);
  text += "]}}\n";
  CHECK_OK(file.write(text));
  return file.commit();
}

}  // namespace thimble
