#include "core/trace.h"

#include <algorithm>

namespace thimble {

Trace* active_trace = nullptr;
thread_local int traced_thread = -1;
thread_local std::string_view traced_operation;

void Trace::make_room(int threads) {
  while (rings_.size() < static_cast<size_t>(threads)) rings_.push_back({std::vector<Span>(kSpans)});
}

std::vector<Trace::Row> Trace::rows() const {
  std::vector<Row> rows;
  for (const Ring& ring : rings_) {
    const uint64_t kept = std::min<uint64_t>(ring.count, kSpans);
    Row row{.lost = ring.count - kept};
    row.spans.reserve(kept);
    for (uint64_t i = ring.count - kept; i < ring.count; ++i) row.spans.push_back(ring.spans[i % kSpans]);
    rows.push_back(std::move(row));
  }
  return rows;
}

void TraceSpan::record(Trace::Kind kind, std::string_view name, Trace::Clock::time_point begin) noexcept {
  const auto thread = static_cast<size_t>(traced_thread);
  if (traced_thread < 0 || thread >= active_trace->rings_.size()) return;
  Trace::Ring& ring = active_trace->rings_[thread];
  ring.spans[ring.count++ % Trace::kSpans] = {name, begin, Trace::Clock::now(), kind};
}

}  // namespace thimble
