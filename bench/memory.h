// Memory in huge pages, as an arena is, and how fast it is read.
#pragma once

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/threads.h"
#include "kernels/rows.h"

namespace thimble {

constexpr int64_t kReadBytes = 96 << 20;  // more than caches hold

class Memory {
 public:
  explicit Memory(int64_t bytes)
      : size(static_cast<size_t>(bytes)),
        data(static_cast<std::byte*>(std::aligned_alloc(2 << 20, (bytes >> 21) + 1 << 21))) {
    madvise(data, size, MADV_HUGEPAGE);
  }
  ~Memory() { std::free(data); }
  Memory(const Memory&) = delete;
  const size_t size;
  std::byte* const data;
};

// Argument: threads.
inline void read(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const Memory memory(kReadBytes);
  std::memset(memory.data, 1, memory.size);
  const float* const data = reinterpret_cast<const float*>(memory.data);
  std::vector<float> sums(static_cast<size_t>(threads));
  Threads team(threads);
  for (auto _ : state)
    team.split(kReadBytes / 4, 4096, [&](int64_t begin, int64_t end, int thread) {
      sums[static_cast<size_t>(thread)] = sum(data + begin, end - begin);
    });
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * kReadBytes);
}

}  // namespace thimble
