// The one block of memory that a run lives in, and what the process itself occupies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/result.h"
#include "core/threads.h"

namespace thimble {

// Anonymous memory, every page touched before the constructor returns.
class Arena {
 public:
  static Result<Arena> create(int64_t bytes, Threads& threads);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  Arena(std::byte* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

int64_t resident_bytes();       // VmRSS now
int64_t peak_resident_bytes();  // VmHWM
void forget_peak_resident();    // it is what is resident now, where the system lets that be said
// What the machine, or its control group, has free.
int64_t free_memory_bytes();

// For a program's main(): until an arena is made, which is planned, memory that would take the process beyond the
// budget is refused, as std::bad_alloc: what a file says may be large. A budget that is almost used up leaves 64 MiB,
// for saying what would do; each of the `threads` that are started has a stack.
void hold_heap_to(int64_t budget_bytes, int threads);
void let_heap_go();

// One malloc arena, freed memory given back at once: what the heap holds is what it was asked for. Call first in
// main().
void settle_allocator();

// Freed memory goes back to the system again, as before populate_runtime: for work that is not to be added to what was
// brought in.
void give_heap_back();

// Free memory between what the heap holds: its pages went back to the system, and small things to come would bring them
// in again, one here and one there. While it is held, what is allocated comes from the end of the heap.
class HeapHoles {
 public:
  HeapHoles() = default;
  HeapHoles(HeapHoles&&) noexcept = default;
  HeapHoles& operator=(HeapHoles&&) = delete;
  ~HeapHoles() { release(); }
  void hold();
  void release() noexcept;

 private:
  std::vector<void*> blocks_;
};

// Brings in what a run will touch outside of the arena, so that it is measured before the arena exists: the pages of
// the program and its own libraries (not those of a host), and `heap_bytes` of heap that stay.
void populate_runtime(int64_t heap_bytes, HeapHoles* holes = nullptr);

// The heap that `work` takes at its most, with the holes held.
int64_t heap_taken_by(const std::function<void()>& work);

// Grows the heap until so much of the process is resident, for small things to come: what was booked is then taken.
void populate_heap(int64_t resident);

}  // namespace thimble
