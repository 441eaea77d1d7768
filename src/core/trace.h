// What each thread did when. While a trace is active, teams of threads record the parts of calls they worked on and how
// long they waited for one another, and whoever runs operations says which: the source of pictures, and of the share of
// time in which threads wait.
//
// One trace for the whole program, as one instruction set level: without one, a span costs a look at a pointer.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>
#include <vector>

namespace thimble {

class Trace {
 public:
  using Clock = std::chrono::steady_clock;

  // operation: from its first call to its last, on the thread that runs it. work: a thread's part of a call, inside an
  // operation or, on other threads than the first, beside one. wait: the first thread, for the others.
  enum class Kind : uint8_t { operation, work, wait };

  struct Span {
    std::string_view name;  // of the operation; lives as long as the program
    Clock::time_point begin, end;
    Kind kind;
  };

  // The last spans of each thread, so many at most. The memory is taken and touched by make_room().
  static constexpr size_t kSpans = size_t{1} << 15;

  // For threads [0, threads); never shrinks. While no thread records.
  void make_room(int threads);

  // The last spans of each thread, oldest first, and how many came before them. While no thread records.
  struct Row {
    std::vector<Span> spans;
    uint64_t lost = 0;
  };
  std::vector<Row> rows() const;

 private:
  friend class TraceSpan;
  struct Ring {
    std::vector<Span> spans;
    uint64_t count = 0;  // ever recorded
  };
  std::vector<Ring> rings_;  // one a thread
};

// nullptr: nothing is recorded. Set while no other thread runs.
extern Trace* active_trace;

// The thread's number in its team, which Threads sets; threads of no team record nothing.
extern thread_local int traced_thread;

// The operation that this thread runs.
extern thread_local std::string_view traced_operation;

// Records [construction, destruction).
class TraceSpan {
 public:
  TraceSpan(Trace::Kind kind, std::string_view name) noexcept : name_(name), kind_(kind) {
    if (active_trace) begin_ = Trace::Clock::now();
  }
  ~TraceSpan() {
    if (active_trace) record(kind_, name_, begin_);
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

  // From `begin` to now, where construction and destruction are no places for it.
  static void record(Trace::Kind kind, std::string_view name, Trace::Clock::time_point begin) noexcept;

 private:
  std::string_view name_;
  Trace::Kind kind_;
  Trace::Clock::time_point begin_;
};

// An operation, as long as this lives: a span, and the name of what is done in it.
class TracedOperation {
 public:
  explicit TracedOperation(std::string_view name) noexcept : span_(Trace::Kind::operation, name) {
    traced_operation = name;
  }
  ~TracedOperation() { traced_operation = {}; }

 private:
  TraceSpan span_;
};

}  // namespace thimble
