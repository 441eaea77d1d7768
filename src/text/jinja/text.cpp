#include "text/jinja/text.h"

#include <algorithm>
#include <utility>

namespace thimble::jinja {
namespace {

void add_span(std::vector<Span>& spans, size_t begin, size_t end) {
  if (begin >= end) return;
  if (!spans.empty() && spans.back().end == begin) {
    spans.back().end = end;
  } else {
    spans.push_back({begin, end});
  }
}

}  // namespace

size_t count_code_points(std::string_view bytes) {
  return static_cast<size_t>(
      std::count_if(bytes.begin(), bytes.end(), [](char byte) { return (byte & 0xc0) != 0x80; }));
}

size_t Text::byte_of(size_t index) const {
  if (ascii() || index == 0) return index;
  if (index >= length) return bytes.size();
  size_t at = 0;
  for (size_t seen = 0; seen < index; ++seen) {
    do ++at;
    while (at < bytes.size() && (bytes[at] & 0xc0) == 0x80);
  }
  return at;
}

void TextBuilder::append(const Text& text, size_t begin, size_t end) {
  const size_t base = text_.bytes.size();
  text_.bytes.append(text.bytes, begin, end - begin);
  auto span =
      std::partition_point(text.foreign.begin(), text.foreign.end(), [&](const Span& one) { return one.end <= begin; });
  for (; span != text.foreign.end() && span->begin < end; ++span) {
    add_span(text_.foreign, base + std::max(span->begin, begin) - begin, base + std::min(span->end, end) - begin);
  }
}

void TextBuilder::append(std::string_view bytes, bool foreign) {
  if (foreign) add_span(text_.foreign, text_.bytes.size(), text_.bytes.size() + bytes.size());
  text_.bytes += bytes;
}

void TextBuilder::append_code(uint32_t code, bool foreign) {
  const size_t before = text_.bytes.size();
  append_utf8(text_.bytes, code);
  if (foreign) add_span(text_.foreign, before, text_.bytes.size());
}

Text TextBuilder::take() {
  text_.length = count_code_points(text_.bytes);
  return std::exchange(text_, Text());
}

TextPointer TextBuilder::finish(bool markup) {
  text_.markup = markup;
  return std::make_shared<const Text>(take());
}

TextPointer make_text(std::string_view bytes, bool foreign) {
  TextBuilder builder;
  builder.append(bytes, foreign);
  return builder.finish();
}

TextPointer slice_bytes(const Text& text, size_t begin, size_t end) {
  TextBuilder builder;
  builder.append(text, begin, std::max(begin, end));
  return builder.finish(text.markup);
}

}  // namespace thimble::jinja
