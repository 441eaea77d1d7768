// Cuts text into the pieces within which byte-pair merging works: patterns, applied one after another, each to the
// pieces that the one before it left.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "text/pattern.h"

namespace thimble {

// A pre-tokenizer that GGUF files have a name for.
struct NamedPattern {
  std::string_view name;
  std::span<const std::string_view> aliases;  // further names with the same patterns
  std::span<const std::string_view> patterns;
  bool ignores_merges;  // a piece that is a token as a whole is taken as it is (Llama 3)
  bool adds_bos;        // where the file does not say
};
std::span<const NamedPattern> named_patterns();
// By name or alias; `unsupported`, with the list, when there is none.
Result<const NamedPattern*> find_named_pattern(std::string_view name);
// GPT-2's, which tokenizer.json's ByteLevel stands for.
std::string_view gpt2_pattern();
// Every numeric character by itself (tokenizer.json's Digits with individual_digits).
std::string_view digit_pattern();

class PreTokenizer {
 public:
  // Takes the pieces, in order.
  class Sink {
   public:
    virtual Result<void> piece(std::string_view bytes) = 0;

   protected:
    ~Sink() = default;
  };

  template <class Patterns>
  static Result<PreTokenizer> make(const Patterns& patterns) {
    PreTokenizer made;
    for (const auto& pattern : patterns) CHECK_OK(made.add(pattern));
    return made;
  }

  std::span<const Pattern> stages() const { return stages_; }
  // The named pattern that this is, or nullptr.
  const NamedPattern* named() const;

  // What matches a stage's pattern is a piece, and so is what lies between. Bytes that are not UTF-8 are a piece each.
  // With `more`, the text goes on: hands out only the pieces that what follows cannot change. Gives the bytes handed
  // out.
  Result<size_t> split(std::string_view text, bool more, Sink& sink) const;

 private:
  Result<void> add(std::string_view pattern);
  Result<size_t> split_stage(size_t stage, std::string_view text, bool more, Sink& sink) const;

  std::vector<Pattern> stages_;
  bool looks_behind_ = false;
};

}  // namespace thimble
