#include "commands/hub_models.h"

#include <cstdlib>

#include "commands/own_process.h"
#include "fetch/hub_cache.h"

namespace thimble {
namespace {

// The first line of what `thimble pull --cache` prints; its messages go to standard error as they come.
Result<std::string> pull(const HubName& name) {
  std::vector<std::string> words = {"pull", name.repository, "--cache"};
  if (!name.file.empty()) words.insert(words.end(), {"--file", name.file});
  const OwnProcess process = TRY(run_thimble(std::move(words)));
  const size_t line = process.out.find('\n');
  if (process.status == 0 && line != std::string::npos) return process.out.substr(0, line);
  const ErrorCode code = process.status == 2 ? ErrorCode::invalid_argument : ErrorCode::io;
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
