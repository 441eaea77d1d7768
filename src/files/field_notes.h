// What becomes of the fields of other tools' files, as tables: nothing that changes a result may be left out without a
// word. A table names every field that its format documents; a test walks the format's list.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "core/result.h"
#include "files/gguf.h"
#include "files/json.h"

namespace thimble {

enum class FieldMeaning : uint8_t {
  honoured,  // as the tool means it
  harmless,  // changes nothing that thimble computes, for the reason given
  warned,    // not done: said by name, with the reason, where the file asks for it
  refused,   // not done, and the rest would be wrong without it: an error by name where the file asks for it
};

struct FieldNote {
  std::string_view field;  // "rope.freq_base"; one that ends in * stands for all that begin so
  FieldMeaning meaning = FieldMeaning::honoured;
  std::string_view why = {};  // of all but honoured
};

// The first row for the field; nullptr: nobody knows it.
const FieldNote* find_note(std::span<const FieldNote> notes, std::string_view field);

// Whether a value asks for nothing: null, false, 0, 1, or empty.
bool is_neutral(const Json& value);

// Refuses what is refused, and warns of the rest that is not done, unknown fields included, in one line. Neutral values
// pass. `prefix` stands before the fields in messages.
Result<void> check_fields(const Json& object, std::span<const FieldNote> notes, const std::string& source,
                          std::string_view prefix = {});

// The metadata whose keys begin so, without the prefix: scalars and strings; an array stands for something that is
// said.
Json metadata_under(const GgufFile& gguf, std::string_view prefix);

}  // namespace thimble
