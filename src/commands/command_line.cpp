#include "commands/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

namespace thimble {
namespace {

template <class Value>
Flag add_option(CLI::App& app, const char* name, Value& value, std::string_view help) {
  return Flag(app.add_option(name, value, std::string(help)));
}

// CLI11's check and its words in the help, with our words in the refusal.
Flag add_check(CLI::Option* option, const CLI::Validator& check, const std::string& expected) {
  const auto problem = [=](std::string& text) {
    return check(text).empty() ? std::string() : fmt::format("expected {}, found '{}'", expected, text);
  };
  return Flag(option->check(CLI::Validator(problem, check.get_description())));
}

// Ends the parse as --help does.
void print_and_leave(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  throw CLI::Success();
}

}  // namespace

Flag Flag::required() { return Flag(option_->required()); }
Flag Flag::shows_default() { return Flag(option_->capture_default_str()); }
Flag Flag::delimiter(char between) { return Flag(option_->delimiter(between)); }
Flag Flag::one_value_each() { return Flag(option_->allow_extra_args(false)); }
Flag Flag::excludes(const std::string& flag) { return Flag(option_->excludes(flag)); }
Flag Flag::in_range(int least, int most) {
  return add_check(option_, CLI::Range(least, most), fmt::format("{} to {}", least, most));
}
Flag Flag::positive() { return add_check(option_, CLI::PositiveNumber, "more than 0"); }
Flag Flag::one_of(std::vector<std::string> all) {
  const std::string expected = fmt::format("{}", fmt::join(all, ", "));
  return add_check(option_, CLI::IsMember(std::move(all)), expected);
}
Flag Flag::check(std::string (*problem)(const std::string& text)) { return Flag(option_->check(problem)); }

const std::string& Flag::description() const { return option_->get_description(); }
const std::vector<std::string>& Flag::short_names() const { return option_->get_snames(); }
const std::vector<std::string>& Flag::long_names() const { return option_->get_lnames(); }
std::string Flag::name() const { return option_->get_name(); }
std::string Flag::default_text() const { return option_->get_default_str(); }

ValueKind Flag::kind() const {
  const std::string type = option_->get_type_name();  // behind it stands what the value is checked for
  if (type.starts_with("INT")) return ValueKind::integer;
  if (type.starts_with("UINT")) return ValueKind::natural;
  if (type.starts_with("FLOAT")) return ValueKind::real;
  return ValueKind::text;
}

bool Flag::positional() const { return option_->get_positional(); }
int Flag::most_values() const { return option_->get_items_expected_max(); }
char Flag::between() const { return option_->get_delimiter(); }
bool Flag::given() const { return option_->count() > 0; }
std::string Flag::text() const { return option_->as<std::string>(); }
int64_t Flag::integer() const { return option_->as<int64_t>(); }

Flag FlagSet::add(const char* name, bool& value, std::string_view help) {
  return Flag(app_.add_flag(name, value, std::string(help)));
}
Flag FlagSet::add(const char* name, int& value, std::string_view help) { return add_option(app_, name, value, help); }
Flag FlagSet::add(const char* name, int64_t& value, std::string_view help) {
  return add_option(app_, name, value, help);
}
Flag FlagSet::add(const char* name, uint64_t& value, std::string_view help) {
  return add_option(app_, name, value, help);
}
Flag FlagSet::add(const char* name, double& value, std::string_view help) {
  return add_option(app_, name, value, help);
}
Flag FlagSet::add(const char* name, std::optional<int64_t>& value, std::string_view help) {
  return add_option(app_, name, value, help);
}
Flag FlagSet::add(const char* name, std::optional<double>& value, std::string_view help) {
  return add_option(app_, name, value, help);
}
Flag FlagSet::add(const char* name, std::string& value, std::string_view help) {
  return add_option(app_, name, value, help);
}
Flag FlagSet::add(const char* name, std::vector<std::string>& value, std::string_view help) {
  return add_option(app_, name, value, help);
}

Flag FlagSet::add_text(const char* name, std::string& value, std::string_view help) {
  return *texts_.insert(add(name, value, help)).first;
}

Flag FlagSet::add_settings(const char* name, std::vector<std::string>& value, std::string_view help) {
  return *settings_.insert(add(name, value, help)).first;
}

void FlagSet::footer(const char* text) { app_.footer(text); }
const std::string& FlagSet::name() const { return app_.get_name(); }
std::string FlagSet::description() const { return app_.get_description(); }

std::vector<Flag> FlagSet::flags() const {
  std::vector<Flag> flags;
  for (CLI::Option* const option : app_.get_options()) flags.emplace_back(option);
  return flags;
}

std::optional<Flag> FlagSet::find(const std::string& flag) const {
  CLI::Option* const option = app_.get_option_no_throw(flag);
  return option ? std::optional(Flag(option)) : std::nullopt;
}

CommandLine::CommandLine(const char* name, const char* description)
    : app_(std::make_unique<CLI::App>(description, name)) {
  app_->require_subcommand(1);
}

CommandLine::~CommandLine() = default;

FlagSet& CommandLine::add_command(const char* name, const char* summary) {
  return commands_.emplace_back(*app_->add_subcommand(name, summary));
}

void CommandLine::add_printout(const char* flag, std::function<std::string()> text, const char* help) {
  takes_value_[flag] = false;
  app_->add_flag_callback(
      flag, [text = std::move(text)] { print_and_leave(text()); }, help);
}

void CommandLine::add_printout(const char* flag, std::function<Result<std::string>(const std::string& value)> text,
                               const char* help) {
  const auto print = [text = std::move(text)](const std::string& value) {
    const Result<std::string> made = text(value);
    if (!made) throw CLI::ValidationError(made.error().message);
    print_and_leave(*made);
  };
  takes_value_[flag] = true;
  app_->add_option_function<std::string>(flag, print, help);
}

std::string CommandLine::description() const { return app_->get_description(); }
bool CommandLine::has(const std::string& flag) const { return app_->get_option_no_throw(flag) != nullptr; }

Result<void> CommandLine::check_printout(std::span<const std::string> arguments) const {
  if (arguments.empty()) return {};
  const size_t equals = arguments[0].find('=');
  const std::string flag = arguments[0].substr(0, equals);
  const auto printout = takes_value_.find(flag);
  if (printout == takes_value_.end()) return {};
  const size_t taken = printout->second && equals == std::string::npos ? 2 : 1;
  if (arguments.size() < taken) return fail(ErrorCode::invalid_argument, "{}: expected a value, found nothing", flag);
  if (arguments.size() > taken)
    return fail(ErrorCode::invalid_argument, "'{}' belongs to no flag: {} stands alone", arguments[taken], flag);
  return {};
}

Result<const FlagSet*> CommandLine::parse(std::vector<std::string> arguments) {
  CHECK_OK(check_printout(arguments));
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    app_->parse(std::move(arguments));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return fail(ErrorCode::invalid_argument, "{}", error.what());
    app_->exit(error);  // prints the help
    return nullptr;
  }
  const auto chosen = std::find_if(commands_.begin(), commands_.end(),
                                   [&](const FlagSet& command) { return app_->got_subcommand(&command.app_); });
  return &*chosen;
}

bool read_number(const std::string& text, int64_t& number) { return CLI::detail::lexical_cast(text, number); }
bool read_number(const std::string& text, uint64_t& number) { return CLI::detail::lexical_cast(text, number); }
bool read_number(const std::string& text, double& number) { return CLI::detail::lexical_cast(text, number); }

}  // namespace thimble
