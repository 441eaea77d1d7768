// Fields without which a record of a data set, or a message in one, means something else. Whatever honours one has
// asked for it (RecordFields); what nobody asked for is refused by name, with what to do instead.
#pragma once

#include "text/record_fields.h"

namespace thimble {

enum class RecordPart {
  record,    // of any data set
  verdicts,  // a record where the objective does not look at who likes a reply
  pair,      // a record of a preference pair, where the objective learns from both replies
  labelled,  // a record of a text with a label
  message
};

// Whether refuse_fields() would refuse a field of that name.
bool is_refused(std::string_view field, RecordPart part);
Result<void> refuse_fields(const RecordFields& fields, RecordPart part);
// Parts of a message's content that are no text, whatever stands beside them.
Result<void> refuse_media(const simdjson::dom::array& parts, std::string_view where);

}  // namespace thimble
