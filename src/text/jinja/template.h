// Jinja, the language that chat templates are written in, with the semantics of jinja2 3.1's immutable sandbox as
// transformers sets it up: trim_blocks, lstrip_blocks, no automatic escaping, loop controls, {% generation %}, tojson
// as Python's json.dumps, raise_exception, strftime_now.
//
// A template is compiled once and rendered any number of times. A rendering is bounded in steps, bytes and depth, and
// touches no file. What is not there: other templates (include, import, extends), what is random (`random`, `lipsum`),
// integers beyond 64 bits.
#pragma once

#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/jinja/value.h"

namespace thimble::jinja {

struct Tree;

using Variable = std::pair<std::string, Value>;

struct RenderOptions {
  std::tm date{};                   // what strftime_now writes
  uint64_t steps = 20'000'000;      // a step does one thing, or makes 32 bytes
  size_t longest_text = 64u << 20;  // bytes of the output, and of any text on the way
};

struct Rendering {
  Text text;                    // its foreign spans are what came with foreign texts in the variables
  std::vector<Span> generated;  // of {% generation %}, in code points
};

class Template {
 public:
  // An error names the line.
  static Result<Template> compile(std::string_view source);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  // The message of an error that the template raises itself is that error's alone; `raised` tells.
  Result<Rendering> render(std::span<const Variable> variables, const RenderOptions& options,
                           bool* raised = nullptr) const;

  bool has_generation() const;
  // That it has this word as a name, an attribute or a whole string: what it never mentions changes nothing.
  bool mentions(std::string_view word) const;

 private:
  explicit Template(std::unique_ptr<const Tree> tree);
  std::unique_ptr<const Tree> tree_;
};

// Today, by the local clock.
std::tm today();

}  // namespace thimble::jinja
