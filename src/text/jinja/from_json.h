// JSON to values of a template, keys in their order.
#pragma once

#include <simdjson.h>

#include "text/jinja/value.h"

namespace thimble::jinja {

// `foreign`: its texts are the conversation's (text.h).
Result<Value> from_json(simdjson::dom::element json, bool foreign);

}  // namespace thimble::jinja
