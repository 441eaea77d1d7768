#include "commands/arguments.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>
#include <type_traits>

#include "commands/command_line.h"
#include "core/nearest.h"
#include "core/split.h"

namespace thimble {
namespace {

// "--steps", or "recipe.yaml:3: steps".
std::string label(const Argument& argument, const std::string& flag) {
  if (argument.origin.empty()) return flag;
  return fmt::format("{}: {}", argument.origin, flag.substr(std::min<size_t>(2, flag.size())));
}

template <class Number>
bool reads_as(const std::string& text) {
  Number number{};
  const bool decimal = text.find_first_of("xX") == std::string::npos;
  if (std::is_unsigned_v<Number> && text.starts_with('-')) return false;  // it would become a large one
  if constexpr (std::is_integral_v<Number>) {  // one that is too large would become the largest
    const std::string_view digits = std::string_view(text).substr(text.starts_with('+') ? 1 : 0);
    if (std::from_chars(digits.data(), digits.data() + digits.size(), number).ec == std::errc::result_out_of_range)
      return false;
  }
  return decimal && read_number(text, number);
}

// "010" is eight to a C library, and ten to everyone else.
std::string without_leading_zeros(const std::string& text) {
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  size_t digit = sign;
  while (digit + 1 < text.size() && text[digit] == '0' && text[digit + 1] >= '0' && text[digit + 1] <= '9') ++digit;
  return text.substr(0, sign) + text.substr(digit);
}

Result<void> check_kind(ValueKind kind, const std::string& name, std::string& value) {
  if (kind == ValueKind::integer || kind == ValueKind::natural) value = without_leading_zeros(value);
  const char* expected = nullptr;
  if (kind == ValueKind::integer && !reads_as<int64_t>(value)) expected = "a whole number";
  if (kind == ValueKind::natural && !reads_as<uint64_t>(value)) expected = "a whole number from 0 on";
  if (kind == ValueKind::real && !reads_as<double>(value)) expected = "a number";
  if (!expected) return {};
  return fail(ErrorCode::invalid_argument, "{}: expected {}, found '{}'", name, expected, value);
}

class Checker {
 public:
  Checker(const FlagSet& command, std::span<Argument> arguments) : command_(command), arguments_(arguments) {
    for (const Flag& flag : command.flags())
      if (flag.positional()) places_ += static_cast<size_t>(flag.most_values());
  }

  Result<void> check() {
    while (at_ < arguments_.size()) {
      Argument& argument = arguments_[at_++];
      if (argument.text == "--") break;
      CHECK_OK(argument.text.size() > 1 && argument.text[0] == '-' ? named(argument) : positional(argument));
    }
    for (; at_ < arguments_.size(); ++at_) CHECK_OK(positional(arguments_[at_]));
    return {};
  }

 private:
  Result<void> positional(const Argument& argument) {
    if (places_ > 0) return --places_, Result<void>();
    return fail(ErrorCode::invalid_argument, "'{}' belongs to no flag; flags begin with --", argument.text);
  }

  std::optional<Flag> find(const std::string& text) const {
    return text.starts_with("-") ? command_.find(text.substr(0, text.find('='))) : std::nullopt;
  }

  Result<void> named(Argument& argument) {
    const size_t equals = argument.text.find('=');
    const std::string name = argument.text.substr(0, equals);
    const std::optional<Flag> flag = find(argument.text);
    if (!flag)
      return fail(ErrorCode::invalid_argument, "there is no {}; the nearest are {}", name,
                  nearest_names(name, flag_names(command_)));
    const std::string shown = label(argument, name);
    if (flag->most_values() == 0) {
      if (equals == std::string::npos) return {};
      return fail(ErrorCode::invalid_argument,
                  "{}: expected no value, found '{}'; it is a switch: give it or leave it out", shown,
                  argument.text.substr(equals + 1));
    }
    if (equals != std::string::npos) {
      std::string text = argument.text.substr(equals + 1);
      CHECK_OK(value(*flag, shown, text, argument));
      argument.text = name + "=" + text;
      return {};
    }
    if (at_ == arguments_.size())
      return fail(ErrorCode::invalid_argument, "{}: expected a value, found nothing", shown);
    if (find(arguments_[at_].text))
      return fail(ErrorCode::invalid_argument, "{}: expected a value, found {}", shown,
                  label(arguments_[at_], arguments_[at_].text));
    CHECK_OK(value(*flag, shown, arguments_[at_++].text, argument));
    // A list takes all up to the next flag.
    while (flag->most_values() > 1 && at_ < arguments_.size() && !arguments_[at_].text.starts_with("-"))
      CHECK_OK(value(*flag, shown, arguments_[at_++].text, argument));
    return {};
  }

  // `argument`: where the flag stands.
  Result<void> value(const Flag& flag, const std::string& name, std::string& value, const Argument& argument) {
    if (value.empty() && !command_.may_be_empty(flag))
      return fail(ErrorCode::invalid_argument, "{}: expected a value, found an empty one; leave the flag out", name);
    for (const std::string& item : flag.between() ? split(value, flag.between()) : std::vector{value}) {
      if (flag.between() && item.empty())
        return fail(ErrorCode::invalid_argument,
                    "{}: expected values with '{}' between them, found an empty one in '{}'", name, flag.between(),
                    value);
      if (command_.has_settings(flag)) CHECK_OK(setting(flag, name, item, !argument.origin.empty()));
    }
    CHECK_OK(check_kind(flag.kind(), name, value));
    const auto [before, first] = given_.emplace(flag, value);
    if (first || flag.most_values() > 1) return {};
    return fail(ErrorCode::invalid_argument, "{}: given twice, as '{}' and as '{}'; give it once", name, before->second,
                value);
  }

  // One from the command line goes before one of the recipe.
  Result<void> setting(const Flag& flag, const std::string& shown, const std::string& text, bool recipe) {
    const auto [before, first] = settings_.emplace(std::tuple(flag, text.substr(0, text.find('=')), recipe), text);
    if (first) return {};
    return fail(ErrorCode::invalid_argument, "{}: '{}' is given twice, as '{}' and as '{}'; give it once", shown,
                std::get<std::string>(before->first), before->second, text);
  }

  const FlagSet& command_;
  std::span<Argument> arguments_;
  size_t at_ = 0;
  size_t places_ = 0;  // for arguments without a flag
  std::map<Flag, std::string> given_;
  std::map<std::tuple<Flag, std::string, bool>, std::string> settings_;  // by flag, name and whether of the recipe
};

}  // namespace

std::vector<std::string> flag_names(const FlagSet& command) {
  std::vector<std::string> names = {"--config"};
  for (const Flag& flag : command.flags())
    for (const std::string& name : flag.long_names()) names.push_back("--" + name);
  return names;
}

Result<void> check_arguments(const FlagSet& command, std::span<Argument> arguments) {
  return Checker(command, arguments).check();
}

}  // namespace thimble
