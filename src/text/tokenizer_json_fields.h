// What becomes of the fields of tokenizer.json: "added.lstrip" of an added token, else those of a part by its type,
// "Metaspace.split", and of the whole by their names.
#pragma once

#include <span>

#include "files/field_notes.h"
#include "text/json_tokenizer.h"

namespace thimble {

std::span<const FieldNote> tokenizer_json_fields();
// Refuses what is refused, and warns of what is not done, unknown fields included.
Result<void> check_tokenizer_json(const JsonTokenizer& json, const JsonTokenizer::Object& root);

}  // namespace thimble
