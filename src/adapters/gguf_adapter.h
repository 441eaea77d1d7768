// LoRA adapters as llama.cpp has them: one GGUF file of general.type "adapter", with "<tensor>.lora_a" [rank, in] and
// "<tensor>.lora_b" [out, rank] for its own names of tensors, and one alpha for all.
//
//   Source  llama.cpp, src/llama-adapter.cpp and convert_lora_to_gguf.py
#pragma once

#include "adapters/adapter.h"

namespace thimble {

bool is_gguf_adapter(const std::string& path);
Result<Adapter> open_gguf_adapter(const std::string& path);

// Gives its tensors the names that PEFT has for them in this model, and a configuration that says the same.
Result<void> name_as_peft(Adapter& adapter, const Architecture& architecture);

// Writes the adapter for llama.cpp. What is one number there (alpha) and differs from layer to layer here is multiplied
// into lora_b. Refuses what such a file cannot hold.
Result<void> write_gguf_adapter(const std::string& path, Adapter& adapter, const Architecture& architecture);

}  // namespace thimble
