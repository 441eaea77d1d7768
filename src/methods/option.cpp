#include "methods/option.h"

#include <algorithm>
#include <cassert>
#include <charconv>
#include <vector>

#include "core/nearest.h"

namespace thimble {

Result<void> OptionValues::set(std::string_view owner, std::string_view name, std::string_view value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (has(name) && (error != std::errc{} || end != value.data() + value.size()))
    return fail(ErrorCode::invalid_argument, "--set {}.{}: '{}' is not a number", owner, name, value);
  return set(owner, name, number);
}

Result<void> OptionValues::set(std::string_view owner, std::string_view name, double number) {
  std::vector<std::string_view> names;
  for (const Option& option : options_) {
    names.push_back(option.name);
    if (option.name != name) continue;
    if (!(number >= option.least && number <= option.most))
      return fail(ErrorCode::invalid_argument, "--set {}.{}: expected {} to {}, found {}", owner, name, option.least,
                  option.most, number);
    values_[std::string(name)] = number;
    return {};
  }
  return fail(ErrorCode::invalid_argument, "--set {}.{}: {} has no such option; {}", owner, name, owner,
              names.empty() ? std::string("it has none") : "the nearest are " + nearest_names(name, names));
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

std::string OptionValues::text() const {
  std::string out;
  for (const Option& option : options_)
    out += fmt::format("{}{}={}", out.empty() ? "" : " ", option.name, (*this)[option.name]);
  return out;
}

}  // namespace thimble
