#include "run/arena.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/control_groups.h"
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

constexpr int64_t kHeapBlock = 64 << 10;

// Heap that was written to, given back together.
class TouchedBlocks {
 public:
  ~TouchedBlocks() {
    for (void* block : blocks_) std::free(block);
  }
  void take(size_t bytes) {
    blocks_.push_back(nullptr);  // where there is no room for it, nothing is taken
    blocks_.back() = std::malloc(bytes);
    if (blocks_.back()) std::memset(blocks_.back(), 1, bytes);
  }

 private:
  std::vector<void*> blocks_;
};

// Libraries that the program is linked with, but for those that have been through their work before anything is
// planned: libyaml-cpp, zlib and libzstd read recipes and compressed data. A host of ours may have others, and files of
// any size that it has mapped: none of our business.
constexpr std::array kOurLibraries = {"libc.",       "libm.",        "libstdc++.", "libgcc_s.",  "ld-linux",
                                      "libpcre2-8.", "libsimdjson.", "libfmt.",    "libxxhash.", "liburing.",
                                      "libutf8proc", "libhwy.",      "libcurl.",   "libcrypto.", "libedit."};

bool is_ours(const dl_phdr_info& object) {
  const std::string_view path = object.dlpi_name ? object.dlpi_name : "";
  if (path.empty()) return true;  // the program
  const std::string_view name = path.substr(path.rfind('/') + 1);
  return std::ranges::any_of(kOurLibraries, [&](const char* ours) { return name.starts_with(ours); });
}

struct AddressRange {
  uintptr_t begin = 0, end = 0;
};

// Tables that nothing but an exception on its way reads: .eh_frame, of which the header behind it says where it begins.
// Where a linker laid them the other way round, the header alone.
AddressRange unwinding_tables(const dl_phdr_info& object) {
  constexpr uint8_t kVersion = 1, kRelativeToField = 0x1b;  // DW_EH_PE_pcrel | DW_EH_PE_sdata4
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    const auto& part = object.dlpi_phdr[i];
    if (part.p_type != PT_GNU_EH_FRAME || part.p_filesz < 8) continue;
    const uintptr_t header = object.dlpi_addr + part.p_vaddr;
    const auto* const bytes = reinterpret_cast<const uint8_t*>(header);
    int32_t distance;
    std::memcpy(&distance, bytes + 4, 4);
    const bool known = bytes[0] == kVersion && bytes[1] == kRelativeToField && distance < 0;
    return {known ? header + 4 + static_cast<uintptr_t>(intptr_t{distance}) : header, header + part.p_filesz};
  }
  return {};
}

// Relocations, which have been done: nothing reads them again.
AddressRange relocations(const dl_phdr_info& object) {
  AddressRange found;
  for (int i = 0; i < object.dlpi_phnum; ++i) {
    if (object.dlpi_phdr[i].p_type != PT_DYNAMIC) continue;
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(object.dlpi_addr + object.dlpi_phdr[i].p_vaddr);
    size_t bytes = 0;
    for (; entry->d_tag != DT_NULL; ++entry) {
      // Some loaders write the address over the place in the file.
      const uintptr_t value = entry->d_un.d_ptr;
      if (entry->d_tag == DT_RELA) found.begin = value < object.dlpi_addr ? object.dlpi_addr + value : value;
      if (entry->d_tag == DT_RELASZ) bytes = value;
    }
    found.end = found.begin + (found.begin > 0 ? bytes : 0);
  }
  return found;
}

void populate(uintptr_t begin, uintptr_t end) {
  begin &= ~uintptr_t{4095};
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_POPULATE_READ);
}

// Whole pages of a file.
void give_back(AddressRange range) {
  range.begin = (range.begin + 4095) & ~uintptr_t{4095}, range.end &= ~uintptr_t{4095};
  if (range.begin < range.end) madvise(reinterpret_cast<void*>(range.begin), range.end - range.begin, MADV_DONTNEED);
}

// What of an object's file is mapped, and may be read while the program runs.
int populate_object(dl_phdr_info* object, size_t, void*) {
  if (!is_ours(*object)) return 0;
  const AddressRange done = relocations(*object);
  std::array unread = {unwinding_tables(*object), done};
  std::ranges::sort(unread, {}, &AddressRange::begin);
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const auto& part = object->dlpi_phdr[i];
    if (part.p_type != PT_LOAD || part.p_filesz == 0) continue;
    uintptr_t begin = object->dlpi_addr + part.p_vaddr;
    const uintptr_t end = begin + part.p_filesz;
    for (const AddressRange& hole : unread) {
      if (hole.begin < begin || hole.end > end) continue;
      populate(begin, hole.begin);
      begin = hole.end;
    }
    populate(begin, end);
    if ((part.p_flags & PF_W) == 0 && done.begin >= object->dlpi_addr + part.p_vaddr && done.end <= end)
      give_back(done);
  }
  return 0;
}

}  // namespace

Result<Arena> Arena::create(int64_t bytes, Threads& threads) {
  let_heap_go();
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

void forget_peak_resident() {
  if (std::FILE* const file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}

int64_t free_memory_bytes() {
  int64_t free = 1024 * kilobytes("/proc/meminfo", "MemAvailable");
  if (const GroupMemory group = group_memory(); group.free_bytes >= 0) free = std::min(free, group.free_bytes);
  return free;
}

namespace {

// Of addresses, which stacks of threads take whole although little of them is ever touched.
std::optional<rlim_t> limit_before;

int add_mapped_bytes(dl_phdr_info* object, size_t, void* sum) {
  for (int i = 0; i < object->dlpi_phnum; ++i)
    if (object->dlpi_phdr[i].p_type == PT_LOAD)
      *static_cast<int64_t*>(sum) += static_cast<int64_t>(object->dlpi_phdr[i].p_memsz);
  return 0;
}

}  // namespace

void hold_heap_to(int64_t budget_bytes, int threads) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  (void)budget_bytes, (void)threads;  // their shadow memory is terabytes of addresses
#else
  constexpr int64_t kLeast = 64 << 20, kStack = 8 << 20;
  rlimit limit{};
  if (limit_before || budget_bytes < 0 || getrlimit(RLIMIT_DATA, &limit) != 0) return;
  int64_t data = 1024 * kilobytes("/proc/self/status", "VmData"), resident = resident_bytes();
  if (data < 0) {  // without /proc: the heap and what is mapped of the program, all taken to be resident
    const struct mallinfo2 heap = mallinfo2();
    data = resident = static_cast<int64_t>(heap.arena + heap.hblkhd);
    dl_iterate_phdr(add_mapped_bytes, &resident);
  }
  const auto most = static_cast<rlim_t>(data + std::max(budget_bytes - resident, kLeast) + kStack * int64_t{threads});
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = std::min(before, most);
  if (setrlimit(RLIMIT_DATA, &limit) == 0) limit_before = before;
#endif
}

void let_heap_go() {
  rlimit limit{};
  if (!limit_before || getrlimit(RLIMIT_DATA, &limit) != 0) return;
  limit.rlim_cur = *std::exchange(limit_before, std::nullopt);
  setrlimit(RLIMIT_DATA, &limit);
}

void settle_allocator() {
  mallopt(M_ARENA_MAX, 1);
  give_heap_back();
}

void give_heap_back() {
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  mallopt(M_TRIM_THRESHOLD, 128 << 10);
  malloc_trim(0);
}

namespace {

// From here on the heap keeps what it has, and all comes from it.
void keep_heap() {
  malloc_trim(0);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
}

}  // namespace

// Blocks from large to small, each kept that does not come from the end of the heap: of a hole, little more than where
// blocks begin is touched.
void HeapHoles::hold() {
  constexpr size_t kLargest = size_t{4} << 20, kSmallest = 2048, kMostBlocks = 1 << 15;
  blocks_.reserve(kMostBlocks);
  const char* const end = static_cast<char*>(sbrk(0)) - mallinfo2().keepcost;
  for (size_t bytes = kLargest; bytes >= kSmallest; bytes /= 2)
    while (blocks_.size() < kMostBlocks) {
      void* const block = std::malloc(bytes);
      if (!block) break;
      if (block >= end) {
        std::free(block);
        break;
      }
      blocks_.push_back(block);
    }
}

void HeapHoles::release() noexcept {
  for (void* block : blocks_) std::free(block);
  blocks_.clear();
}

// What it has freed is still resident then.
int64_t heap_taken_by(const std::function<void()>& work) {
  keep_heap();
  HeapHoles holes;
  holes.hold();
  const int64_t before = resident_bytes();
  work();
  const int64_t taken = resident_bytes() - before;
  holes.release();
  give_heap_back();
  return taken;
}

void populate_runtime(int64_t heap_bytes, HeapHoles* holes) {
  keep_heap();
  if (holes) holes->hold();
  dl_iterate_phdr(populate_object, nullptr);
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
