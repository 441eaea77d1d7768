#include "methods/option.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <cmath>
#include <vector>

#include "core/nearest.h"
#include "core/split.h"

namespace thimble {
namespace {

Result<double> parse_number(std::string_view owner, std::string_view name, std::string_view value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error == std::errc{} && end == value.data() + value.size()) return number;
  return fail(ErrorCode::invalid_argument, "--set {}.{}: '{}' is not a number", owner, name, value);
}

Result<void> check_number(std::string_view owner, const Option& option, double number) {
  using Kind = Option::Kind;
  const bool whole = option.kind == Kind::whole || option.kind == Kind::whole_numbers;
  if (whole && std::isfinite(number) && number != std::floor(number))
    return fail(ErrorCode::invalid_argument, "--set {}.{}: expected a whole number, found {}", owner, option.name,
                number);
  if (number >= option.least && number <= option.most) return {};
  return fail(ErrorCode::invalid_argument, "--set {}.{}: expected {} to {}, found {}", owner, option.name, option.least,
              option.most, number);
}

Result<const Option*> find_option(std::span<const Option> options, std::string_view owner, std::string_view name) {
  std::vector<std::string_view> names;
  for (const Option& option : options) {
    if (option.name == name) return &option;
    names.push_back(option.name);
  }
  return fail(ErrorCode::invalid_argument, "--set {}.{}: {} has no such option; {}", owner, name, owner,
              names.empty() ? std::string("it has none") : "the nearest are " + nearest_names(name, names));
}

}  // namespace

Result<void> OptionValues::set(std::string_view owner, std::string_view name, std::string_view value) {
  const Option& option = *TRY(find_option(options_, owner, name));
  if (const auto [given, first] = owners_.emplace(name, owner); !first && given->second != owner)
    return fail(ErrorCode::invalid_argument, "--set {0}.{1}: --set {2}.{1} says the same; leave one of them out", owner,
                name, given->second);
  if (option.kind == Option::Kind::words) {
    std::vector<std::string> words = split(std::string(value), '|');
    std::erase(words, "");
    words_[std::string(name)] = std::move(words);
    return {};
  }
  if (option.kind != Option::Kind::whole_numbers) return set(owner, name, TRY(parse_number(owner, name, value)));
  std::vector<double> numbers;
  for (size_t begin = 0; begin < value.size();) {
    const size_t end = std::min(value.find('|', begin), value.size());
    numbers.push_back(TRY(parse_number(owner, name, value.substr(begin, end - begin))));
    begin = end + 1;
  }
  return set(owner, name, std::move(numbers));
}

Result<void> OptionValues::set(std::string_view owner, std::string_view name, double number) {
  const Option& option = *TRY(find_option(options_, owner, name));
  if (option.kind == Option::Kind::words)
    return fail(ErrorCode::invalid_argument, "--set {}.{}: expected words, found {}", owner, name, number);
  if (option.kind == Option::Kind::whole_numbers) return set(owner, name, std::vector{number});
  CHECK_OK(check_number(owner, option, number));
  values_[std::string(name)] = number;
  return {};
}

Result<void> OptionValues::set(std::string_view owner, std::string_view name, std::vector<double> numbers) {
  const Option& option = *TRY(find_option(options_, owner, name));
  for (const double number : numbers) CHECK_OK(check_number(owner, option, number));
  lists_[std::string(name)] = std::move(numbers);
  return {};
}

bool OptionValues::has(std::string_view name) const {
  return std::any_of(options_.begin(), options_.end(), [&](const Option& option) { return option.name == name; });
}

double OptionValues::operator[](std::string_view name) const {
  if (const auto found = values_.find(name); found != values_.end()) return found->second;
  for (const Option& option : options_)
    if (option.name == name) return option.initial;
  assert(false && "an option that was not declared");
  return 0;
}

bool OptionValues::is_default(std::string_view name) const {
  const auto found = std::ranges::find(options_, name, &Option::name);
  return found != options_.end() && (*this)[name] == found->initial;
}

bool OptionValues::is_given(std::string_view name) const { return values_.contains(name); }

const std::vector<double>& OptionValues::list(std::string_view name) const {
  static const std::vector<double> none;
  const auto found = lists_.find(name);
  return found == lists_.end() ? none : found->second;
}

const std::vector<std::string>& OptionValues::words(std::string_view name) const {
  static const std::vector<std::string> none;
  const auto found = words_.find(name);
  return found == words_.end() ? none : found->second;
}

std::string OptionValues::text() const {
  std::string out;
  for (const Option& option : options_) {
    out += fmt::format("{}{}=", out.empty() ? "" : " ", option.name);
    if (!option.is_list()) out += fmt::format("{}", (*this)[option.name]);
    const std::vector<double>& numbers = list(option.name);
    for (size_t i = 0; i < numbers.size(); ++i) out += fmt::format("{}{}", i ? "|" : "", numbers[i]);
    out += fmt::format("{}", fmt::join(words(option.name), "|"));
  }
  return out;
}

Result<Setting> parse_setting(std::string_view text) {
  const size_t dot = text.find('.'), equals = text.find('=');
  if (dot == std::string_view::npos || equals == std::string_view::npos || dot > equals || dot == 0)
    return fail(ErrorCode::invalid_argument, "--set: expected socket.option=value, found '{}'", text);
  return Setting{std::string(text.substr(0, dot)), std::string(text.substr(dot + 1, equals - dot - 1)),
                 std::string(text.substr(equals + 1))};
}

}  // namespace thimble
