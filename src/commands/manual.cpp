#include "commands/manual.h"

#include <CLI/CLI.hpp>

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

std::string flags_of(const CLI::Option& option) {
  std::string names;
  for (const std::string& name : option.get_snames()) names += fmt::format("{}-{}", names.empty() ? "" : ", ", name);
  for (const std::string& name : option.get_lnames()) names += fmt::format("{}--{}", names.empty() ? "" : ", ", name);
  return names.empty() ? option.get_name() : names;
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

// Between apostrophes, for shells.
std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string bash(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* command : app.get_subcommands({})) {
    names += fmt::format("{}{}", names.empty() ? "" : " ", command->get_name());
    std::string flags = "--config";
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames()) flags += " --" + name;
    cases += fmt::format("    {}) flags={} ;;\n", command->get_name(), in_quotes(flags));
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

std::string zsh(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* command : app.get_subcommands({})) {
    names += fmt::format("    {}\n", in_quotes(command->get_name() + ":" + command->get_description()));
    cases += fmt::format("    {}) _arguments", command->get_name());
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames())
        cases += " " + in_quotes(fmt::format("--{}{}{}", name, bracketed(option->get_description()),
                                             takes_value(*option) ? ":value:_files" : ""));
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

std::string fish(const CLI::App& app) {
  std::string out = "# Completions of thimble for fish, made by `thimble --completions fish`.\n";
  for (const CLI::App* command : app.get_subcommands({})) {
    out += fmt::format("complete -c thimble -n __fish_use_subcommand -f -a {} -d {}\n", command->get_name(),
                       in_quotes(command->get_description()));
    for (const CLI::Option* option : command->get_options())
      for (const std::string& name : option->get_lnames())
        out +=
            fmt::format("complete -c thimble -n '__fish_seen_subcommand_from {}' -l {}{} -d {}\n", command->get_name(),
                        name, takes_value(*option) ? " -r" : "", in_quotes(option->get_description()));
  }
  return out;
}

struct Shell {
  std::string_view name;
  std::string (*make)(const CLI::App& app);
};
constexpr std::array kShells{Shell{"bash", bash}, Shell{"zsh", zsh}, Shell{"fish", fish}};

}  // namespace

std::string man_page(const CLI::App& app) {
  std::string page = fmt::format(
      ".TH THIMBLE 1\n.SH NAME\nthimble \\- {}\n.SH SYNOPSIS\n.B thimble\n.I COMMAND\n[\\fIFLAGS\\fR]\n.SH COMMANDS\n",
      troff(app.get_description().substr(app.get_description().find(": ") + 2)));
  for (const CLI::App* command : app.get_subcommands({})) {
    page += fmt::format(".SS thimble {}\n{}\n", command->get_name(), troff(command->get_description()));
    for (const CLI::Option* option : command->get_options()) {
      page += fmt::format(".TP\n\\fB{}\\fR", troff(flags_of(*option)));
      if (takes_value(*option)) page += " \\fIVALUE\\fR";
      const std::string otherwise = option->get_default_str();
      page += fmt::format("\n{}{}\n", troff(option->get_description()),
                          otherwise.empty() ? "" : troff(" [" + otherwise + "]"));
    }
  }
  return page +
         ".SH EXIT STATUS\n0: done. 1: failure while running. 2: what was given can not be used. 3: does not fit the "
         "budget. 130: interrupted.\n";
}

Result<std::string> completions(const CLI::App& app, std::string_view shell) {
  std::vector<std::string_view> names;
  for (const Shell& known : kShells) {
    if (known.name == shell) return known.make(app);
    names.push_back(known.name);
  }
  return fail(ErrorCode::invalid_argument, "--completions: expected one of {}, found '{}'", nearest_names(shell, names),
              shell);
}

}  // namespace thimble
