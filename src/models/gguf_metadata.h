// The metadata of a GGUF model: sizes under llama.cpp's keys, and the vocabulary. Part of the GGUF writer.
#pragma once

#include "files/gguf_writer.h"
#include "models/families.h"
#include "models/gguf_writer.h"

namespace thimble {

Result<void> add_metadata(const Family& family, const Architecture& architecture, const GgufWriteOptions& options,
                          GgufWriter& writer);

}  // namespace thimble
