// What becomes of the metadata keys of a GGUF model, of those that llama.cpp documents.
#pragma once

#include <span>
#include <string>

#include "files/field_notes.h"
#include "models/families.h"

namespace thimble {

// Without "general." and without the name of the architecture before them. A key that only some families have is
// refused in the others.
std::span<const FieldNote> gguf_general_fields();
std::span<const FieldNote> gguf_model_fields();

// Of a family whose window llama.cpp does not look at.
std::string window_note(const std::string& path, const Family& family, int64_t window);

// Refuses or warns of what the metadata ask for and thimble does not do.
Result<void> check_gguf_fields(const GgufFile& gguf, const Family& family, const Architecture& architecture);

}  // namespace thimble
