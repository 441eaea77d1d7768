// JSON Schema as a grammar: JSON that a schema allows.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace thimble {

// GBNF. Properties come in the schema's order, those that are not required may be left out; without
// additionalProperties none but those named come (as llama.cpp reads it). `unsupported` names a keyword that narrows
// what is allowed and is not done: pattern, minimum and the like, allOf, not, if.
Result<std::string> gbnf_of_json_schema(std::string_view schema);
// Any JSON value, an object at the top.
std::string gbnf_of_json();

}  // namespace thimble
