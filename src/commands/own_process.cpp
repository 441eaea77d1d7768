#include "commands/own_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "files/file.h"

extern char** environ;

namespace thimble {

Result<OwnProcess> run_thimble(std::vector<std::string> words, const std::string& out, bool errors) {
  constexpr size_t kMost = 64 << 10;
  int ends[2] = {-1, -1};
  if (out.empty() && ::pipe2(ends, O_CLOEXEC) != 0)
    return fail(ErrorCode::io, "running thimble {}: there is no pipe", words.front());
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  if (out.empty())
    ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  else
    ::posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW,
                                       0644);
  if (errors) ::posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  words.insert(words.begin(), "thimble");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int started = ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  OwnProcess process;
  if (out.empty()) {
    ::close(ends[1]);
    char piece[512];
    for (ssize_t count; started == 0 && (count = ::read(ends[0], piece, sizeof piece)) > 0;)
      if (process.out.size() < kMost) process.out.append(piece, static_cast<size_t>(count));
    ::close(ends[0]);
  }
  if (started != 0) return fail(ErrorCode::io, "running thimble {}: it could not be started", words[1]);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return fail(ErrorCode::io, "running thimble {}: how it ended is not known", words[1]);
  process.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return process;
}

}  // namespace thimble
