// convert --adapter-only: the adapter itself, not merged into its model.
#pragma once

#include <string>

#include "core/result.h"

namespace thimble {

// Writes the adapter of a model as llama.cpp's --lora takes it. Returns how many tensors it has.
Result<size_t> convert_adapter(const std::string& model, const std::string& adapter, const std::string& out);

}  // namespace thimble
