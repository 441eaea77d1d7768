// The command line: commands, and the flags of each. CLI11 does the work behind this interface. Its headers take five
// seconds of a compiler's time and leave their code in every object, so command_line.cpp alone includes them.
#pragma once

#include <compare>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace thimble {

enum class ValueKind { text, integer, natural, real };  // natural: an integer from 0 on

// A flag, or an argument without one. This is a handle: its copies stand for the same flag, which lives as long as the
// command line.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  // For the command that adds it. Each returns the flag, so that calls can be chained.
  Flag required();
  Flag shows_default();                    // the help names the value that the variable has now
  Flag delimiter(char between);            // one argument may hold several values
  Flag one_value_each();                   // a list grows by one value each time that the flag is given
  Flag excludes(const std::string& flag);  // one that was added before
  Flag in_range(int least, int most);      // both included
  Flag positive();                         // above 0
  Flag one_of(std::vector<std::string> all);
  Flag check(std::string (*problem)(const std::string& text));  // "" when the text is a value of the flag

  // For whoever lists flags or looks at what was given.
  const std::string& description() const;
  const std::vector<std::string>& short_names() const;  // "h" of -h
  const std::vector<std::string>& long_names() const;   // "steps" of --steps
  std::string name() const;                             // one of these; "PATH" of an argument without a flag
  std::string default_text() const;                     // "" when the help shows none
  ValueKind kind() const;
  bool positional() const;
  int most_values() const;  // 0: it is a switch
  char between() const;     // what separates values within one argument; 0 where nothing does
  bool given() const;
  std::string text() const;  // of the value that was given
  int64_t integer() const;
  auto operator<=>(const Flag&) const = default;

 private:
  CLI::Option* option_;
};

// The flags of one command.
class FlagSet {
 public:
  explicit FlagSet(CLI::App& app) : app_(app) {}
  FlagSet(const FlagSet&) = delete;
  FlagSet& operator=(const FlagSet&) = delete;

  // What is given for the flag goes into `value`, which holds the default and outlives the command line. A name without
  // dashes is that of a positional argument.
  Flag add(const char* name, bool& value, std::string_view help);  // a switch: it takes no value
  Flag add(const char* name, int& value, std::string_view help);
  Flag add(const char* name, int64_t& value, std::string_view help);
  Flag add(const char* name, uint64_t& value, std::string_view help);
  Flag add(const char* name, double& value, std::string_view help);
  Flag add(const char* name, std::optional<int64_t>& value, std::string_view help);
  Flag add(const char* name, std::optional<double>& value, std::string_view help);
  Flag add(const char* name, std::string& value, std::string_view help);
  Flag add(const char* name, std::vector<std::string>& value, std::string_view help);
  Flag add_text(const char* name, std::string& value, std::string_view help);  // it may be given as ""
  // A list of NAME=VALUE, each name once.
  Flag add_settings(const char* name, std::vector<std::string>& value, std::string_view help);
  void footer(const char* text);  // below the flags in the help

  const std::string& name() const;
  std::string description() const;
  std::vector<Flag> flags() const;
  std::optional<Flag> find(const std::string& flag) const;  // "--steps"
  bool may_be_empty(const Flag& flag) const { return texts_.contains(flag); }
  bool has_settings(const Flag& flag) const { return settings_.contains(flag); }

 private:
  friend class CommandLine;
  CLI::App& app_;
  std::set<Flag> texts_, settings_;
};

class CommandLine {
 public:
  CommandLine(const char* name, const char* description);
  ~CommandLine();

  FlagSet& add_command(const char* name, const char* summary);
  // Flags in place of a command: they print a text. The second takes a value.
  void add_printout(const char* flag, std::function<std::string()> text, const char* help);
  void add_printout(const char* flag, std::function<Result<std::string>(const std::string& value)> text,
                    const char* help);

  const std::deque<FlagSet>& commands() const { return commands_; }
  std::string description() const;
  bool has(const std::string& flag) const;  // "--version": one in place of a command
  // The chosen command, its variables set; nullptr when a text was printed instead. `arguments`: without the program.
  Result<const FlagSet*> parse(std::vector<std::string> arguments);

 private:
  Result<void> check_printout(std::span<const std::string> arguments) const;

  std::unique_ptr<CLI::App> app_;
  std::map<std::string, bool> takes_value_;  // the flags in place of a command
  std::deque<FlagSet> commands_;
};

// Numbers as flags read them; false when the text is none.
bool read_number(const std::string& text, int64_t& number);
bool read_number(const std::string& text, uint64_t& number);
bool read_number(const std::string& text, double& number);

}  // namespace thimble
