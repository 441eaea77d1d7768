// The metadata of a GGUF model: sizes under llama.cpp's keys, and the vocabulary. Part of the GGUF writer.
#pragma once

#include "files/gguf_writer.h"
#include "models/gguf_writer.h"

namespace thimble {

// "mistral" is "llama" in GGUF.
std::string gguf_family(const Architecture& architecture);

Result<void> add_metadata(const Architecture& architecture, const GgufWriteOptions& options, GgufWriter& writer);

}  // namespace thimble
