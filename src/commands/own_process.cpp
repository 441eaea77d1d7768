#include "commands/own_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "files/file.h"

namespace thimble {
namespace {

// In the new process, which goes when this one does: a run that nobody waits for would hold its folder.
[[noreturn]] void become(char* const* arguments, pid_t parent, int pipe, const std::string& out, bool errors) noexcept {
  constexpr int kNotStarted = 127;
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kNotStarted);
  const int to = out.empty() ? pipe : ::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (to < 0 || ::dup2(to, STDOUT_FILENO) < 0) ::_exit(kNotStarted);
  if (errors) ::dup2(STDOUT_FILENO, STDERR_FILENO);
  ::execv("/proc/self/exe", arguments);
  ::_exit(kNotStarted);
}

}  // namespace

Result<OwnProcess> run_thimble(std::vector<std::string> words, const std::string& out, bool errors) {
  constexpr size_t kMost = 64 << 10;
  int ends[2] = {-1, -1};
  if (out.empty() && ::pipe2(ends, O_CLOEXEC) != 0)
    return fail(ErrorCode::io, "running thimble {}: there is no pipe", words.front());
  words.insert(words.begin(), "thimble");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid(), child = ::fork();
  if (child == 0) become(arguments.data(), parent, ends[1], out, errors);
  OwnProcess process;
  if (out.empty()) {
    ::close(ends[1]);
    char piece[512];
    for (ssize_t count; child > 0 && (count = ::read(ends[0], piece, sizeof piece)) > 0;)
      if (process.out.size() < kMost) process.out.append(piece, static_cast<size_t>(count));
    ::close(ends[0]);
  }
  if (child < 0) return fail(ErrorCode::io, "running thimble {}: it could not be started", words[1]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return fail(ErrorCode::io, "running thimble {}: how it ended is not known", words[1]);
  process.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return process;
}

}  // namespace thimble
