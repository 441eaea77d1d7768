// Takes malloc's place (LD_PRELOAD) to make one allocation of a program fail; tools/check_allocations.py builds and
// runs it.
//
//   FAIL_AT=N       the Nth allocation, from 1 on, fails; FAIL_TIMES=K: and the K - 1 after it; 0: and all after it
//   FAIL_SITES=F    instead: the first allocation of every call stack, one "INDEX HASH" a line, into the file F
//   FAIL_REPORT=F   at the end: "allocations N", and "live SITE COUNT" for what is not freed, by who asked for it
//   FAIL_TRACE=F    who asks for the one that fails, into the file F
//
// Allocations are malloc, calloc, realloc, aligned ones, those of operator new, and anonymous mappings, from where
// main() begins: before that nobody could say a word.
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <new>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

namespace {

constexpr size_t kSlots = size_t{1} << 18;  // of live blocks and of call stacks; touched as they are used
constexpr int kDepth = 24;

std::atomic<uint64_t> count{0};
uint64_t fail_at = 0;
uint64_t fail_times = 1;
int sites = -1, trace = -1;
const char* report = nullptr;
std::atomic_flag lock = ATOMIC_FLAG_INIT;
bool begun = false;  // main()
int (*real_main)(int, char**, char**) = nullptr;
thread_local bool inside __attribute__((tls_model("initial-exec"))) = false;

struct Block {
  void* at;
  void* site;
};
Block* blocks = nullptr;
uint64_t* stacks = nullptr;

class Locked {
 public:
  Locked() {
    while (lock.test_and_set(std::memory_order_acquire)) {
    }
  }
  ~Locked() { lock.clear(std::memory_order_release); }
};

template <class T>
T* table() {
  const long at = syscall(SYS_mmap, nullptr, kSlots * sizeof(T), PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return at == -1 ? nullptr : reinterpret_cast<T*>(at);
}

size_t slot_of(const void* pointer) { return (reinterpret_cast<uintptr_t>(pointer) >> 4) * 0x9e3779b97f4a7c15u >> 46; }

// Open addressing; what is freed leaves a mark behind, so that others are still found.
void* const kGone = reinterpret_cast<void*>(1);

void add_block(void* pointer, void* site) {
  if (!blocks || !pointer) return;
  const Locked locked;
  for (size_t i = slot_of(pointer), tried = 0; tried < kSlots; i = (i + 1) % kSlots, ++tried)
    if (!blocks[i].at || blocks[i].at == kGone) {
      blocks[i] = {pointer, site};
      return;
    }
}

void* remove_block(void* pointer) {
  if (!blocks || !pointer) return nullptr;
  const Locked locked;
  for (size_t i = slot_of(pointer), tried = 0; blocks[i].at && tried < kSlots; i = (i + 1) % kSlots, ++tried)
    if (blocks[i].at == pointer) {
      blocks[i].at = kGone;
      return blocks[i].site;
    }
  return nullptr;
}

void write_line(int file, const char* format, ...) {
  char line[160];
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  if (write(file, line, static_cast<size_t>(length)) < 0) _exit(99);
}

void note_stack(uint64_t index) {
  void* frames[kDepth];
  const int depth = backtrace(frames, kDepth);
  uint64_t hash = 14695981039346656037u;
  for (int i = 2; i < depth; ++i) hash = (hash ^ reinterpret_cast<uintptr_t>(frames[i])) * 1099511628211u;
  if (hash == 0) hash = 1;
  const Locked locked;
  for (size_t i = hash % kSlots;; i = (i + 1) % kSlots) {
    if (stacks[i] == hash) return;
    if (stacks[i]) continue;
    stacks[i] = hash;
    return write_line(sites, "%llu %016llx\n", static_cast<unsigned long long>(index),
                      static_cast<unsigned long long>(hash));
  }
}

// Whether the allocation that is asked for now is to fail.
bool fails() {
  if (inside || !begun) return false;
  const uint64_t index = count.fetch_add(1, std::memory_order_relaxed) + 1;
  if (sites >= 0) {
    inside = true;
    note_stack(index);
    inside = false;
  }
  const bool now = fail_at > 0 && index >= fail_at && (fail_times == 0 || index - fail_at < fail_times);
  if (now && trace >= 0 && index == fail_at) {
    inside = true;
    void* frames[kDepth];
    backtrace_symbols_fd(frames, backtrace(frames, kDepth), trace);
    inside = false;
  }
  return now;
}

void* out_of_memory() {
  errno = ENOMEM;
  return nullptr;
}

uint64_t number(const char* name) {
  const char* const text = getenv(name);
  return text ? strtoull(text, nullptr, 10) : 0;
}

__attribute__((constructor)) void begin() {
  inside = true;
  void* frames[1];
  backtrace(frames, 1);  // loads what unwinds
  report = getenv("FAIL_REPORT");
  if (report) blocks = table<Block>();
  if (const char* const path = getenv("FAIL_SITES")) {
    stacks = table<uint64_t>();
    sites = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  }
  if (const char* const path = getenv("FAIL_TRACE")) trace = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (getenv("FAIL_TIMES")) fail_times = number("FAIL_TIMES");
  inside = false;
  fail_at = number("FAIL_AT");
}

int counted_main(int argc, char** argv, char** environment) {
  begun = true;
  return real_main(argc, argv, environment);
}

__attribute__((destructor)) void end() {
  inside = true;
  fail_at = 0;
  if (!report) return;
  const int file = open(report, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  write_line(file, "allocations %llu\n", static_cast<unsigned long long>(count.load()));
  for (size_t i = 0; blocks && i < kSlots; ++i)
    if (blocks[i].at && blocks[i].at != kGone) write_line(file, "live %p\n", blocks[i].site);
  close(file);
}

void* allocate(size_t bytes, void* site) {
  if (fails()) return out_of_memory();
  void* const at = __libc_malloc(bytes);
  add_block(at, site);
  return at;
}

// As the library's operator new does: the handler finds memory, or throws.
template <class Allocate>
void* insist(Allocate allocate) {
  for (;;) {
    if (void* const at = allocate()) return at;
    const std::new_handler handler = std::get_new_handler();
    if (!handler) throw std::bad_alloc();
    handler();
  }
}

void* allocate_new(size_t bytes, void* site) {
  return insist([&] { return allocate(bytes ? bytes : 1, site); });
}

void* allocate_new_or_null(size_t bytes, void* site) noexcept {
  try {
    return allocate_new(bytes, site);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void* allocate_aligned(size_t alignment, size_t bytes, void* site) {
  if (fails()) return out_of_memory();
  void* const at = __libc_memalign(alignment, bytes);
  add_block(at, site);
  return at;
}

void* allocate_new(size_t bytes, std::align_val_t alignment, void* site) {
  return insist([&] { return allocate_aligned(static_cast<size_t>(alignment), bytes, site); });
}

}  // namespace

#define SITE __builtin_return_address(0)

extern "C" {
int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(), void (*fini)(),
                      void (*unload)(), void* stack_end) {
  real_main = main;
  using Start = int (*)(int (*)(int, char**, char**), int, char**, void (*)(), void (*)(), void (*)(), void*);
  return reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"))(counted_main, argc, argv, init, fini, unload,
                                                                        stack_end);
}
void* malloc(size_t bytes) { return allocate(bytes, SITE); }
void* calloc(size_t items, size_t bytes) {
  if (fails()) return out_of_memory();
  void* const at = __libc_calloc(items, bytes);
  add_block(at, SITE);
  return at;
}
void* realloc(void* old, size_t bytes) {
  if (fails()) return out_of_memory();
  void* const site = remove_block(old);
  void* const at = __libc_realloc(old, bytes);
  add_block(at ? at : old, at || !site ? SITE : site);
  return at;
}
void* memalign(size_t alignment, size_t bytes) { return allocate_aligned(alignment, bytes, SITE); }
void* aligned_alloc(size_t alignment, size_t bytes) { return allocate_aligned(alignment, bytes, SITE); }
int posix_memalign(void** to, size_t alignment, size_t bytes) {
  void* const at = allocate_aligned(alignment, bytes, SITE);
  if (!at) return ENOMEM;
  *to = at;
  return 0;
}
void free(void* pointer) {
  remove_block(pointer);
  __libc_free(pointer);
}
void* mmap(void* at, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
  if ((flags & MAP_ANONYMOUS) && fails()) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  const long result = syscall(SYS_mmap, at, bytes, protection, flags, descriptor, offset);
  return reinterpret_cast<void*>(result);
}
}

void* operator new(size_t bytes) { return allocate_new(bytes, SITE); }
void* operator new[](size_t bytes) { return allocate_new(bytes, SITE); }
void* operator new(size_t bytes, const std::nothrow_t&) noexcept { return allocate_new_or_null(bytes, SITE); }
void* operator new[](size_t bytes, const std::nothrow_t&) noexcept { return allocate_new_or_null(bytes, SITE); }
void* operator new(size_t bytes, std::align_val_t alignment) { return allocate_new(bytes, alignment, SITE); }
void* operator new[](size_t bytes, std::align_val_t alignment) { return allocate_new(bytes, alignment, SITE); }
void operator delete(void* pointer) noexcept { free(pointer); }
void operator delete[](void* pointer) noexcept { free(pointer); }
void operator delete(void* pointer, size_t) noexcept { free(pointer); }
void operator delete[](void* pointer, size_t) noexcept { free(pointer); }
void operator delete(void* pointer, std::align_val_t) noexcept { free(pointer); }
void operator delete[](void* pointer, std::align_val_t) noexcept { free(pointer); }
void operator delete(void* pointer, size_t, std::align_val_t) noexcept { free(pointer); }
void operator delete[](void* pointer, size_t, std::align_val_t) noexcept { free(pointer); }
