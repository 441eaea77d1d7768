// The `thimble` binary. Exit codes: 0, 1 failure, 2 usage, 3 does not fit, 130 interrupted.
#include <array>

#include "commands/command.h"
#include "commands/config_file.h"
#include "core/nearest.h"
#include "run/arena.h"

namespace thimble {
namespace {

constexpr std::array kCommands = {&kFinetune, &kTrain,   &kPlan, &kEval,    &kGenerate, &kChat,     &kTokenize,
                                  &kConvert,  &kInspect, &kPull, &kMethods, &kReport,   &kCalibrate};

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return 2;
    case ErrorCode::over_budget:
      return 3;
    case ErrorCode::cancelled:
      return 130;
    default:
      return 1;
  }
}

// "--modle" was meant to be another flag of the command.
void suggest_flags(const CLI::App& app) {
  for (const CLI::App* command : app.get_subcommands()) {
    std::vector<std::string> flags;
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
    }
    for (const std::string& argument : command->remaining()) {
      const std::string flag = argument.substr(0, argument.find('='));
      if (!flag.starts_with("--")) continue;
      fmt::print(stderr, "thimble {}: there is no {}; the nearest are {}\n", command->get_name(), flag,
                 nearest_names(flag, flags));
    }
  }
}

int run(int argc, char** argv) {
  CLI::App app{"thimble: train, fine-tune and run language models in the memory you have", "thimble"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "thimble 0.1.0");
  std::array<std::function<Result<void>()>, kCommands.size()> actions;
  std::vector<std::string_view> names;
  for (size_t i = 0; i < kCommands.size(); ++i) {
    CLI::App* const command = app.add_subcommand(kCommands[i]->name, kCommands[i]->summary);
    actions[i] = kCommands[i]->add(*command);
    names.push_back(kCommands[i]->name);
  }
  if (argc > 1 && argv[1][0] != '-' && std::find(names.begin(), names.end(), argv[1]) == names.end()) {
    fmt::print(stderr, "thimble: there is no command '{}'; the nearest are {}\n", argv[1],
               nearest_names(argv[1], names));
    return 2;
  }
  auto arguments = expand_config({argv + 1, argv + argc});
  if (!arguments) {
    fmt::print(stderr, "thimble: {}\n", arguments.error().message);
    return 2;
  }
  std::reverse(arguments->begin(), arguments->end());  // as CLI11 takes them
  try {
    app.parse(std::move(*arguments));
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    if (code != 0) suggest_flags(app);
    return code == 0 ? 0 : 2;
  }
  for (size_t i = 0; i < kCommands.size(); ++i) {
    if (!app.got_subcommand(kCommands[i]->name)) continue;
    const Result<void> result = actions[i]();
    if (result) return 0;
    fmt::print(stderr, "thimble {}: {}\n", kCommands[i]->name, result.error().message);
    return exit_code(result.error().code);
  }
  return 2;
}

}  // namespace
}  // namespace thimble

int main(int argc, char** argv) {
  thimble::settle_allocator();
  return thimble::run(argc, argv);
}
