// The `thimble` binary. Exit codes: 0, 1 failure while running, 2 usage, 3 does not fit, 130 interrupted.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <system_error>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/config_file.h"
#include "commands/hub_models.h"
#include "commands/manual.h"
#include "commands/trace_file.h"
#include "core/cpus.h"
#include "core/isa.h"
#include "core/nearest.h"
#include "core/printable.h"
#include "run/arena.h"
#include "run/recipe.h"
#include "run/setup.h"

namespace thimble {
namespace {

constexpr std::array kCommands = {&kFinetune, &kTrain,   &kPlan,    &kEval,     &kGenerate, &kChat,     &kTokenize,
                                  &kRender,   &kConvert, &kPrune,   &kQuantize, &kCut,      &kRecover,  &kData,
                                  &kInspect,  &kPull,    &kMethods, &kCompare,  &kReport,   &kCalibrate};

// 2 is for what was given: flags, and files that are missing, empty, damaged or of the wrong kind. 1 is for what fails
// while running: disk, network, a loss that is not finite.
int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::over_budget:
      return 3;
    case ErrorCode::cancelled:
      return 130;
    case ErrorCode::io:
    case ErrorCode::diverged:
      return 1;
    default:
      return 2;
  }
}

// Says what is wrong, in the form of all messages. `command`: "" when none was chosen.
int refuse(std::string_view command, std::string_view message, int code = 2) {
  fmt::print(stderr, "thimble{}{}: {}\n", command.empty() ? "" : " ", command, printable(message));
  return code;
}

// What is given to a command, with what --config says; checked.
Result<std::vector<std::string>> arguments_of(const FlagSet& command, std::vector<std::string> given) {
  std::vector<Argument> checked = TRY(expand_config(command, std::move(given)));
  CHECK_OK(check_arguments(command, checked));
  CHECK_OK(resolve_hub_models(checked));
  std::vector<std::string> arguments = {command.name()};
  for (Argument& argument : checked) arguments.push_back(std::move(argument.text));
  return arguments;
}

// From here on, until a plan says what is taken. The budget.
Result<int64_t> hold_memory(const FlagSet& command, bool computes) {
  const std::optional<Flag> memory = command.find("--memory");
  const int64_t asked = memory && memory->given() ? TRY(parse_bytes(memory->text())) : 0;
  const int64_t budget = budget_or_free(asked);
  const std::optional<Flag> threads = command.find("--threads");
  const int64_t asked_threads = threads && threads->given() ? threads->integer() : 0;
  hold_heap_to(budget, computes
                           ? static_cast<int>(std::max<int64_t>(usable_cpus(), std::min<int64_t>(asked_threads, 1024)))
                           : 0);
  return budget;
}

// Runs a command, and leaves a trace of its threads in `path`: also of a run that failed or was interrupted.
Result<void> run_traced(const std::function<Result<void>()>& action, const std::string& path) {
  CHECK_OK(check_trace_output(path));
  Trace trace;
  active_trace = &trace;
  Result<void> result = action();
  active_trace = nullptr;
  const TraceSummary summary = summarise(trace);
  const Result<void> written =
      summary.threads > 0
          ? write_trace(trace, summary, path)
          : fail(ErrorCode::invalid_argument, "--trace {}: there is nothing to write, no thread worked", path);
  if (written) fmt::print(stderr, "{}\n", printable(trace_line(summary, path)));
  return result ? written : result;
}

std::string version() {
  std::string levels;
  for (const IsaLevel& level : isa_levels()) levels += fmt::format("{}{}", levels.empty() ? "" : ", ", level.name);
  return fmt::format("thimble " THIMBLE_VERSION "\n" THIMBLE_BUILD "\nkernels for {}\n", levels);
}

int run(int argc, char** argv) {
  CommandLine line("thimble", "thimble: train, fine-tune and run language models in the memory you have");
  line.add_printout("--version", version, "Display program version information and exit");
  line.add_printout(
      "--man", [&line] { return man_page(line); }, "print the manual page, as troff");
  line.add_printout(
      "--completions", [&line](const std::string& shell) { return completions(line, shell); },
      "print completions for a shell: bash, zsh, fish");
  std::array<std::function<Result<void>()>, kCommands.size()> actions;
  std::vector<std::string_view> names;
  std::string isa, memory, trace;
  for (size_t i = 0; i < kCommands.size(); ++i) {
    FlagSet& command = line.add_command(kCommands[i]->name, kCommands[i]->summary);
    actions[i] = kCommands[i]->add(command);
    // Where a command plans nothing, the flag holds what files make it take.
    if (!command.find("--memory")) command.add("--memory", memory, "most resident memory of the process: 300M, 1.5G");
    if (kCommands[i]->computes) {
      command.add("--isa", isa,
                  "instruction set level of the kernels (`thimble inspect --cpu` lists them); the widest that the CPU "
                  "has");
      command.add("--trace", trace,
                  "file for what each thread did when, for chrome://tracing or Perfetto: the last 32768 spans of each, "
                  "1.6 MB");
    }
    names.push_back(kCommands[i]->name);
  }
  if (argc < 2) return refuse("", fmt::format("expected a command: {}", fmt::join(names, ", ")));
  const std::string_view first = argv[1];
  const auto named = std::find(names.begin(), names.end(), first);
  if (named == names.end() && !first.starts_with("-"))
    return refuse("", fmt::format("there is no command '{}'; the nearest are {}", first, nearest_names(first, names)));
  if (named == names.end() && !line.has(std::string(first.substr(0, first.find('=')))))
    return refuse("", fmt::format("expected a command before {}: {}", first, fmt::join(names, ", ")));
  std::string_view name;
  std::vector<std::string> arguments = {argv + 1, argv + argc};
  if (named != names.end()) {
    name = first;
    const FlagSet& command = line.commands()[static_cast<size_t>(named - names.begin())];
    auto checked = arguments_of(command, {argv + 2, argv + argc});
    if (!checked) return refuse(name, checked.error().message, exit_code(checked.error().code));
    arguments = *std::move(checked);
  }
  const Result<const FlagSet*> chosen = line.parse(std::move(arguments));
  if (!chosen) return refuse(name, chosen.error().message);
  if (!*chosen) return 0;
  const auto i = static_cast<size_t>(std::find(names.begin(), names.end(), (*chosen)->name()) - names.begin());
  const auto act = [&]() -> Result<void> {
    const int64_t budget = TRY(hold_memory(**chosen, kCommands[i]->computes));
    try {
      if (isa.empty())
        use_widest_isa();
      else
        CHECK_OK(use_isa(isa));
      return trace.empty() ? actions[i]() : run_traced(actions[i], trace);
    } catch (const std::bad_alloc&) {
      let_heap_go();
      return fail(ErrorCode::over_budget,
                  "it takes more than the {} that it may have: a file may be damaged or made to do so, or give a "
                  "larger --memory",
                  megabytes(budget));
    }
  };
  const Result<void> result = act();
  return result ? 0 : refuse(name, result.error().message, exit_code(result.error().code));
}

}  // namespace
}  // namespace thimble

namespace {

// Nothing that is thrown ends the process without a word: too little memory, threads that the system does not give, an
// output that is full.
int run_guarded(int argc, char** argv) {
  try {
    return thimble::run(argc, argv);
  } catch (const std::bad_alloc&) {
    // Without taking any more.
    std::fputs("thimble: there is not enough memory; a smaller --memory, or fewer --threads, may help\n", stderr);
    return 1;
  } catch (const std::system_error& error) {
    if (std::ferror(stdout)) return 0;  // main says so
    return thimble::refuse("", error.what(), 1);
  } catch (const std::exception& error) {
    return thimble::refuse("", std::string("internal error: ") + error.what(), 1);
  }
}

std::atomic<bool> ran_out{false};  // of memory, at any time
std::atomic<void*> reserve{nullptr};

// The first allocation that fails has the reserve, so that a destructor that allocates ends well, and so does the
// unwinding that later failures begin.
void free_reserve_or_throw() {
  ran_out = true;
  if (void* const held = reserve.exchange(nullptr))
    std::free(held);
  else
    throw std::bad_alloc();
}

// Functions of libraries that promise not to throw allocate all the same (CLI11's names of flags, simdjson's parsers,
// destructors of nlohmann's objects, libstdc++'s iterators over folders): there is no way back from there, but a word.
// Anything else is a fault of ours.
[[noreturn]] void say_and_leave() {
  if (!ran_out) {
    std::fputs("thimble: internal error: an exception that nothing handles\n", stderr);
    std::abort();
  }
  std::fputs("thimble: there is not enough memory; a smaller --memory may help\n", stderr);
  std::_Exit(1);
}

// A folder of data may hold more files than a shell lets a process have open at first.
void allow_many_files() {
  constexpr rlim_t kMost = 1 << 17;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kMost) return;
  limit.rlim_cur = std::min(limit.rlim_max, kMost);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int main(int argc, char** argv) {
  constexpr size_t kReserve = 1 << 20;  // of addresses: nothing is written there
  reserve = std::malloc(kReserve);
  std::set_new_handler(free_reserve_or_throw);
  std::set_terminate(say_and_leave);
  thimble::settle_allocator();
  allow_many_files();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is an error like a full disk
  const int code = run_guarded(argc, argv);
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return code;
  return code == 0 ? thimble::refuse("", "standard output could not be written", 1) : code;
}
