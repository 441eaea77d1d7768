// A regular expression over names of modules, as PEFT's configurations have them (Python's syntax, on PCRE2). Patterns
// come from files: their length and the work of a match are bounded.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

class NamePattern {
 public:
  // `source` names the file and field in messages.
  static Result<NamePattern> compile(const std::string& pattern, const std::string& source);

  // Whether the whole name matches.
  Result<bool> matches(std::string_view name) const;
  // The text of a group (0: all) where the pattern matches the beginning of the name; "" where it does not.
  Result<std::string> group(std::string_view name, size_t number) const;

 private:
  struct Compiled;
  struct Free {
    void operator()(Compiled* compiled) const;
  };
  Result<int> run(std::string_view name, size_t number, std::string* group) const;

  std::string source_;
  std::shared_ptr<Compiled> compiled_;
};

}  // namespace thimble
