// simdjson's parser, from which memory that runs out comes as std::bad_alloc: it must not be used again after that.
#pragma once

#include <simdjson.h>

#include <new>
#include <string_view>

namespace thimble {

// What is parsed lives until the parser's next text.
inline simdjson::simdjson_result<simdjson::dom::element> parse_json(simdjson::dom::parser& parser,
                                                                    std::string_view text) {
  auto parsed = parser.parse(text.data(), text.size(), true);
  if (parsed.error() == simdjson::MEMALLOC) throw std::bad_alloc();
  return parsed;
}

// Without a copy of the text, behind which there are simdjson::SIMDJSON_PADDING bytes.
inline simdjson::simdjson_result<simdjson::dom::element> parse_padded_json(simdjson::dom::parser& parser,
                                                                           std::string_view text) {
  auto parsed = parser.parse(text.data(), text.size(), false);
  if (parsed.error() == simdjson::MEMALLOC) throw std::bad_alloc();
  return parsed;
}

}  // namespace thimble
