#include "commands/manual.h"

#include "commands/arguments.h"
#include "commands/command_line.h"
#include "core/nearest.h"

namespace thimble {
namespace {

// Text for troff: no line may begin with a dot or an apostrophe, a backslash is one no longer.
std::string troff(std::string_view text) {
  std::string out = "\\&";
  for (const char c : text) {
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  return out;
}

std::string flags_of(const Flag& flag) {
  std::string names;
  for (const std::string& name : flag.short_names()) names += fmt::format("{}-{}", names.empty() ? "" : ", ", name);
  for (const std::string& name : flag.long_names()) names += fmt::format("{}--{}", names.empty() ? "" : ", ", name);
  return names.empty() ? flag.name() : names;
}

bool takes_value(const Flag& flag) { return flag.most_values() > 0; }

// Between apostrophes, for shells.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string bash(const CommandLine& line) {
  std::string names, cases;
  for (const FlagSet& command : line.commands()) {
    names += fmt::format("{}{}", names.empty() ? "" : " ", command.name());
    cases += fmt::format("    {}) flags={} ;;\n", command.name(),
                         in_quotes(fmt::format("{}", fmt::join(flag_names(command), " "))));
  }
  return fmt::format(
      "# Completions of thimble for bash, made by `thimble --completions bash`.\n"
      "_thimble() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} flags=\n"
      "  if [[ $COMP_CWORD -eq 1 ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W '{} --help --version' -- \"$word\")\n"
      "    return\n"
      "  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  if [[ $word == -* ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$flags\" -- \"$word\")\n"
      "  else\n"
      "    compopt -o filenames\n"
      "    mapfile -t COMPREPLY < <(compgen -f -- \"$word\")\n"
      "  fi\n"
      "}}\n"
      "complete -F _thimble thimble\n",
      names, cases);
}

// A description in zsh's brackets.
std::string bracketed(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return "[" + out + "]";
}

std::string zsh(const CommandLine& line) {
  std::string names, cases;
  for (const FlagSet& command : line.commands()) {
    names += fmt::format("    {}\n", in_quotes(command.name() + ":" + command.description()));
    cases += fmt::format("    {}) _arguments", command.name());
    for (const Flag& flag : command.flags())
      for (const std::string& name : flag.long_names())
        cases += " " + in_quotes(fmt::format("--{}{}{}", name, bracketed(flag.description()),
                                             takes_value(flag) ? ":value:_files" : ""));
    cases += " '*:file:_files' ;;\n";
  }
  return fmt::format(
      "#compdef thimble\n"
      "# Completions of thimble for zsh, made by `thimble --completions zsh`.\n"
      "_thimble() {{\n"
      "  local -a commands=(\n{}  )\n"
      "  if (( CURRENT == 2 )); then\n"
      "    _describe command commands\n"
      "    return\n"
      "  fi\n"
      "  local command=$words[2]\n"
      "  shift words; (( CURRENT-- ))\n"
      "  case $command in\n{}  esac\n"
      "}}\n"
      "_thimble \"$@\"\n",
      names, cases);
}

std::string fish(const CommandLine& line) {
  std::string out = "# Completions of thimble for fish, made by `thimble --completions fish`.\n";
  for (const FlagSet& command : line.commands()) {
    out += fmt::format("complete -c thimble -n __fish_use_subcommand -f -a {} -d {}\n", command.name(),
                       in_quotes(command.description()));
    for (const Flag& flag : command.flags())
      for (const std::string& name : flag.long_names())
        out += fmt::format("complete -c thimble -n '__fish_seen_subcommand_from {}' -l {}{} -d {}\n", command.name(),
                           name, takes_value(flag) ? " -r" : "", in_quotes(flag.description()));
  }
  return out;
}

struct Shell {
  std::string_view name;
  std::string (*make)(const CommandLine& line);
};
constexpr std::array kShells{Shell{"bash", bash}, Shell{"zsh", zsh}, Shell{"fish", fish}};

}  // namespace

std::string man_page(const CommandLine& line) {
  std::string page = fmt::format(
      ".TH THIMBLE 1\n.SH NAME\nthimble \\- {}\n.SH SYNOPSIS\n.B thimble\n.I COMMAND\n[\\fIFLAGS\\fR]\n.SH COMMANDS\n",
      troff(line.description().substr(line.description().find(": ") + 2)));
  for (const FlagSet& command : line.commands()) {
    page += fmt::format(".SS thimble {}\n{}\n", command.name(), troff(command.description()));
    for (const Flag& flag : command.flags()) {
      page += fmt::format(".TP\n\\fB{}\\fR", troff(flags_of(flag)));
      if (takes_value(flag)) page += " \\fIVALUE\\fR";
      const std::string otherwise = flag.default_text();
      page +=
          fmt::format("\n{}{}\n", troff(flag.description()), otherwise.empty() ? "" : troff(" [" + otherwise + "]"));
    }
  }
  return page +
         ".SH EXIT STATUS\n0: done. 1: failure while running. 2: what was given cannot be used. 3: does not fit the "
         "budget. 130: interrupted.\n";
}

Result<std::string> completions(const CommandLine& line, std::string_view shell) {
  std::vector<std::string_view> names;
  for (const Shell& known : kShells) {
    if (known.name == shell) return known.make(line);
    names.push_back(known.name);
  }
  return fail(ErrorCode::invalid_argument, "--completions: expected one of {}, found '{}'", nearest_names(shell, names),
              shell);
}

}  // namespace thimble
