#include "commands/hub_models.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "fetch/hub_cache.h"

extern char** environ;

namespace thimble {
namespace {

// The first line of what `thimble pull --cache` prints; its messages go to standard error as they come.
Result<std::string> pull(const HubName& name) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail(ErrorCode::io, "fetching {}: there is no pipe", name.repository);
  std::vector<std::string> words = {"thimble", "pull", name.repository, "--cache"};
  if (!name.file.empty()) words.insert(words.end(), {"--file", name.file});
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  pid_t child = 0;
  const int started = ::posix_spawn(&child, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  std::string out;
  char piece[512];
  for (ssize_t count; started == 0 && (count = ::read(ends[0], piece, sizeof piece)) > 0;)
    out.append(piece, static_cast<size_t>(count));
  ::close(ends[0]);
  int status = 0;
  const bool ended = started == 0 && ::waitpid(child, &status, 0) == child && WIFEXITED(status);
  const size_t line = out.find('\n');
  if (ended && WEXITSTATUS(status) == 0 && line != std::string::npos) return out.substr(0, line);
  const ErrorCode code = ended && WEXITSTATUS(status) == 2 ? ErrorCode::invalid_argument : ErrorCode::io;
  return fail(code, "--model {}: it is neither here nor in {}, and could not be fetched", name.repository,
              hub_cache_folder());
}

Result<std::string> path_of(const std::string& text) {
  const std::optional<HubName> name = hub_name(text);
  if (!name) return text;
  if (const auto cached = find_cached(hub_cache_folder(), *name)) return *cached;
  const char* const offline = std::getenv("HF_HUB_OFFLINE");
  if (offline && std::string_view(offline) != "0" && *offline != '\0')
    return fail(ErrorCode::invalid_argument, "--model {}: it is neither here nor in {}, and HF_HUB_OFFLINE is set",
                text, hub_cache_folder());
  return pull(*name);
}

}  // namespace

Result<void> resolve_hub_models(std::vector<Argument>& arguments) {
  constexpr std::string_view kFlag = "--model";
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string& text = arguments[i].text;
    if (text == kFlag && i + 1 < arguments.size())
      arguments[i + 1].text = TRY(path_of(arguments[i + 1].text));
    else if (text.starts_with("--model="))
      text = fmt::format("--model={}", TRY(path_of(text.substr(kFlag.size() + 1))));
  }
  return {};
}

}  // namespace thimble
