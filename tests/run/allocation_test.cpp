// Running allocates nothing of 4 KiB or more: malloc and its kin are watched while steps run.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>

#include "run/trainer.h"
#include "text/small_tokenizer.h"

namespace {

std::atomic<bool> watching{false};
std::atomic<int> large{0};

void see(size_t bytes) {
  if (watching.load(std::memory_order_relaxed) && bytes >= 4096) large.fetch_add(1);
}

template <class Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" void* malloc(size_t bytes) {
  static const auto real = next<void* (*)(size_t)>("malloc");
  see(bytes);
  return real(bytes);
}
extern "C" void* realloc(void* old, size_t bytes) {
  static const auto real = next<void* (*)(void*, size_t)>("realloc");
  see(bytes);
  return real(old, bytes);
}
extern "C" void* mmap(void* at, size_t bytes, int protection, int flags, int descriptor, off_t offset) {
  static const auto real = next<void* (*)(void*, size_t, int, int, int, off_t)>("mmap");
  see(bytes);
  return real(at, bytes, protection, flags, descriptor, offset);
}

namespace thimble {
namespace {

TEST(Allocation, steps_allocate_nothing_large) {
  const TemporaryFolder folder;
  small_byte_bpe(folder, kChatMl);
  std::string data;
  for (int i = 0; i < 40; ++i)
    data += R"({"prompt": "say )" + std::to_string(i) + R"(", "completion": " )" +
            std::string(static_cast<size_t>(20 + i), 'a') + "\"}\n";
  Recipe recipe{.tokenizer = folder.path() + "/tokenizer.json",
                .data = folder.write("data.jsonl", data),
                .out = folder.path() + "/out",
                .method = "full",
                .size = "100K",
                .batch = 2,
                .accumulate = 2,
                .context = 128,
                .steps = 8,
                .threads = 2};
  Events events(true);
  auto trainer = Trainer::prepare(recipe, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  // The watch covers the steps alone: it begins and ends with events of steps.
  events.on_step([](const StepEvent& step) {
    if (step.step == 1) watching = true;
    if (step.step == step.steps) watching = false;
  });
  const auto done = (*trainer)->run();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(large.load(), 0);
  watching = true;
  std::free(std::malloc(5000));
  watching = false;
  EXPECT_EQ(large.load(), 1) << "the watch sees nothing";
}

}  // namespace
}  // namespace thimble
