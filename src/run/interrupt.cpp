#include "run/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>

namespace thimble {
namespace {

std::atomic<int> count{0};
std::atomic<bool> pipe_is_closed{false};
static_assert(std::atomic<int>::is_always_lock_free, "used by a signal handler");

const char* said = nullptr;

void handle(int) {
  if (count.fetch_add(1) >= 1) _exit(130);
  if (said) (void)!write(STDERR_FILENO, said, std::strlen(said));
}

// Each write that comes after raises it again.
void handle_closed_pipe(int) { pipe_is_closed.store(true); }

}  // namespace

void watch_interrupts(const char* message) {
  said = message;
  struct sigaction action {};
  action.sa_handler = handle;
  sigaction(SIGINT, &action, nullptr);
}

void watch_terminations() {
  struct sigaction action {};
  action.sa_handler = handle;
  for (int signal : {SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  action.sa_handler = handle_closed_pipe;
  sigaction(SIGPIPE, &action, nullptr);
}

bool interrupted() { return count.load() > 0 || pipe_is_closed.load(); }

void clear_interrupts() { count.store(0); }

}  // namespace thimble
