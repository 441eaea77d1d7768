// Strings of a template, which know which of their bytes were written by the conversation.
//
// A user may write "<|im_end|>": only what the template itself writes may become a special token. So every string keeps
// the spans of its bytes that came from outside (`foreign`), and every operation on strings copies them along.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/text_span.h"
#include "text/utf8.h"

namespace thimble::jinja {

// Whatever a value may point to.
struct Object {
  virtual ~Object() = default;
};

using Span = TextSpan;

struct Text final : Object {
  std::string bytes;          // UTF-8
  std::vector<Span> foreign;  // of `bytes`; in order, apart from each other, none empty
  size_t length = 0;          // code points
  bool markup = false;        // made by `safe` or `escape`: escapes what is joined to it

  bool ascii() const { return length == bytes.size(); }
  // Byte of the code point `index`, at most `length`.
  size_t byte_of(size_t index) const;
};

using TextPointer = std::shared_ptr<const Text>;

class TextBuilder {
 public:
  void append(const Text& text) { append(text, 0, text.bytes.size()); }
  void append(const Text& text, size_t begin, size_t end);
  void append(std::string_view bytes, bool foreign = false);
  void append_code(uint32_t code, bool foreign);
  size_t size() const { return text_.bytes.size(); }
  std::string_view view() const { return text_.bytes; }
  void clear() { text_ = Text(); }
  Text take();
  TextPointer finish(bool markup = false);

 private:
  Text text_;
};

size_t count_code_points(std::string_view bytes);
TextPointer make_text(std::string_view bytes, bool foreign = false);
TextPointer slice_bytes(const Text& text, size_t begin, size_t end);

// Calls visit(code, length, foreign) for each code point of the bytes [begin, end).
template <class Visit>
void for_each_code(const Text& text, size_t begin, size_t end, Visit&& visit) {
  size_t next = 0;
  for (size_t at = begin; at < end;) {
    const Utf8Char c = decode_utf8(text.bytes, at);
    while (next < text.foreign.size() && text.foreign[next].end <= at) ++next;
    visit(c.code, c.length, next < text.foreign.size() && text.foreign[next].begin <= at);
    at += c.length;
  }
}

}  // namespace thimble::jinja
