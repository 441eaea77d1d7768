// One regular expression of a pre-tokenizer, on PCRE2 with its compiler to machine code.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

class Pattern {
 public:
  // `source` as in tokenizer.json (Oniguruma's syntax, the part that tokenizers use).
  static Result<Pattern> compile(std::string source);

  // A literal as a pattern.
  static std::string quoted(std::string_view text);

  const std::string& source() const { return source_; }
  bool looks_behind() const { return looks_behind_; }    // a match depends on what stands before it
  bool matches_empty() const { return matches_empty_; }  // it may match between characters, which find() passes over

  struct Match {
    enum class Kind { none, found, partial } kind = Kind::none;
    size_t start = 0, end = 0;
  };
  // The first match in `text` from `from` on; never an empty one. `text` is valid UTF-8. With `more`, a match that
  // touched the end of the text is `partial`: what follows could change it.
  Result<Match> find(std::string_view text, size_t from, bool more) const;

 private:
  struct Compiled;
  struct Free {
    void operator()(Compiled* compiled) const;
  };
  std::string source_;
  std::unique_ptr<Compiled, Free> compiled_;
  bool looks_behind_ = false, matches_empty_ = false;
};

}  // namespace thimble
