#include "run/arena.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "core/round.h"

namespace thimble {
namespace {

constexpr size_t kHugePage = 2 << 20;

// A number in kB from a file of "Name:  123 kB" lines; -1 when absent.
int64_t kilobytes(const char* path, const char* name) {
  std::FILE* file = std::fopen(path, "r");
  if (!file) return -1;
  char line[256];
  long long value = -1;
  while (std::fgets(line, sizeof line, file))
    if (std::strncmp(line, name, std::strlen(name)) == 0) {
      std::sscanf(line + std::strlen(name), ": %lld", &value);
      break;
    }
  std::fclose(file);
  return value;
}

int64_t number_in(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "r");
  if (!file) return -1;
  long long value = -1;
  if (std::fscanf(file, "%lld", &value) != 1) value = -1;
  std::fclose(file);
  return value;
}

constexpr int64_t kHeapBlock = 64 << 10;

// Heap that was written to, given back together.
class TouchedBlocks {
 public:
  ~TouchedBlocks() {
    for (void* block : blocks_) std::free(block);
  }
  void take(size_t bytes) {
    blocks_.push_back(std::malloc(bytes));
    if (blocks_.back()) std::memset(blocks_.back(), 1, bytes);
  }

 private:
  std::vector<void*> blocks_;
};

}  // namespace

Result<Arena> Arena::create(int64_t bytes, Threads& threads) {
  const auto size = static_cast<size_t>(round_up(std::max<int64_t>(bytes, 1), 4096));
  void* const memory = mmap(nullptr, size + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return fail(ErrorCode::over_budget, "taking an arena of {} bytes: {}; give a smaller --memory", bytes,
                std::strerror(errno));
  // Huge pages where the arena covers them whole: reading is up to twice as fast. Small ones elsewhere, so that the
  // resident size is what has been touched, to the page.
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const size_t skip = (kHugePage - address % kHugePage) % kHugePage, huge = size / kHugePage * kHugePage;
  if (skip) munmap(memory, skip);
  std::byte* const data = static_cast<std::byte*>(memory) + skip;
  munmap(data + size, kHugePage - skip);
  madvise(data, huge, MADV_HUGEPAGE);
  madvise(data + huge, size - huge, MADV_NOHUGEPAGE);
  threads.split(static_cast<int64_t>(size), kHugePage, [&](int64_t begin, int64_t end, int) {
    if (madvise(data + begin, static_cast<size_t>(end - begin), MADV_POPULATE_WRITE) == 0) return;
    for (int64_t at = begin; at < end; at += 4096) static_cast<volatile std::byte*>(data)[at] = std::byte{0};
  });
  return Arena(data, static_cast<int64_t>(size));
}

Arena::Arena(Arena&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}
Arena::~Arena() {
  if (data_) munmap(data_, static_cast<size_t>(bytes_));
}

int64_t resident_bytes() { return 1024 * kilobytes("/proc/self/status", "VmRSS"); }
int64_t peak_resident_bytes() { return 1024 * kilobytes("/proc/self/status", "VmHWM"); }

int64_t free_memory_bytes() {
  int64_t free = 1024 * kilobytes("/proc/meminfo", "MemAvailable");
  const int64_t limit = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) free = std::min(free, limit - used);
  return free;
}

void settle_allocator() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
}

void populate_runtime(int64_t heap_bytes) {
  malloc_trim(0);
  // Mapped files that the run uses: its own code and libraries. Those of commands that are not run are never loaded.
  std::FILE* maps = std::fopen("/proc/self/maps", "r");
  char line[512];
  while (maps && std::fgets(line, sizeof line, maps)) {
    unsigned long begin = 0, end = 0;
    char mode[8] = "";
    if (std::sscanf(line, "%lx-%lx %7s", &begin, &end, mode) != 3 || mode[0] != 'r') continue;
    if (!std::strchr(line, '/') || std::strstr(line, "(deleted)")) continue;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_READ);
  }
  if (maps) std::fclose(maps);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);  // from here on the heap keeps what it has, and all comes from it
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  // Small blocks first, which fill the holes that small things will go into.
  const int64_t small_bytes = (256 << 10) + heap_bytes / 8;
  TouchedBlocks blocks;
  for (int64_t taken = 0; taken < small_bytes; taken += 512) blocks.take(512 - 16);
  for (int64_t taken = 0; taken < heap_bytes; taken += kHeapBlock) blocks.take(kHeapBlock - 64);
}

void populate_heap(int64_t resident) {
  TouchedBlocks blocks;
  while (resident_bytes() + kHeapBlock <= resident) blocks.take(kHeapBlock - 64);
}

}  // namespace thimble
