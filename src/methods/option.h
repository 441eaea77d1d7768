// Options of a technique: declared once with their default, bounds and meaning; set by `--set socket.option=value`.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble {

struct Option {
  enum class Kind : uint8_t {
    number,
    whole,          // a whole number
    whole_numbers,  // any number of whole numbers, none to begin with: "3|7|11"
    words,          // any number of words, none to begin with: "q_proj|norm"
  };
  std::string_view name;
  double initial;
  double least, most;  // inclusive; of each number in a list
  std::string_view help;
  Kind kind = Kind::number;

  bool is_list() const { return kind == Kind::whole_numbers || kind == Kind::words; }
};

constexpr Option whole_number(std::string_view name, int64_t initial, int64_t least, int64_t most,
                              std::string_view help) {
  return {name, static_cast<double>(initial), static_cast<double>(least), static_cast<double>(most),
          help, Option::Kind::whole};
}
constexpr Option zero_or_one(std::string_view name, int64_t initial, std::string_view help) {
  return whole_number(name, initial, 0, 1, help);
}

class OptionValues {
 public:
  explicit OptionValues(std::span<const Option> options = {}) : options_(options) {}
  // Errors name the nearest option, the kind of number that is expected, or the bounds. An owner may go by two names,
  // its socket's and its own: an option is given by one of them.
  Result<void> set(std::string_view owner, std::string_view name, std::string_view value);
  Result<void> set(std::string_view owner, std::string_view name, double number);
  bool has(std::string_view name) const;
  Result<void> set(std::string_view owner, std::string_view name, std::vector<double> numbers);  // of a list
  double operator[](std::string_view name) const;
  bool is_default(std::string_view name) const;  // of a number
  bool is_given(std::string_view name) const;    // a number was set, be it the default
  const std::vector<double>& list(std::string_view name) const;
  const std::vector<std::string>& words(std::string_view name) const;
  std::string text() const;  // "beta1=0.9 beta2=0.999"

 private:
  std::span<const Option> options_;
  std::map<std::string, std::string, std::less<>> owners_;  // of options given as text, by name
  std::map<std::string, double, std::less<>> values_;
  std::map<std::string, std::vector<double>, std::less<>> lists_;
  std::map<std::string, std::vector<std::string>, std::less<>> words_;
};

// "socket.option=value", as --set takes it.
struct Setting {
  std::string owner, name, value;
};
Result<Setting> parse_setting(std::string_view text);

}  // namespace thimble
