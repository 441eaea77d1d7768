// The architecture of a GGUF model. What its metadata says is put as the fields of a config.json, which the family's
// own list then reads; what llama.cpp leaves to the tensors themselves (biases, a head of its own) follows from them.
#pragma once

#include "files/gguf.h"
#include "files/gguf_writer.h"
#include "models/families.h"

namespace thimble {

// The family of general.architecture in which the file is read. Mistral's files are those of "llama" with a window,
// OLMo 3's those of "olmo2" with one.
Result<const Family*> gguf_family(const GgufFile& gguf);

// Checked.
Result<Architecture> gguf_architecture(const GgufFile& gguf, const Family& family);

// The same of writing: the keys of an architecture.
Result<void> add_architecture(const Family& family, const Architecture& architecture, GgufWriter& writer);

// Tensors that belong to rope instead of a module.
constexpr std::string_view kRopeFactors = "rope_freqs.weight", kShortFactors = "rope_factors_short.weight",
                           kLongFactors = "rope_factors_long.weight";

// What a GGUF file calls a tensor, and which of that tensor's rows are its own.
FilePlace place_in_gguf(const Family& family, const Architecture& architecture, const TensorSpec& spec);

// What is added to the numbers of a tensor when the file is written: llama.cpp keeps gains whole that Hugging Face
// stores less 1.
float gguf_shift(const Architecture& architecture, const TensorSpec& spec);

}  // namespace thimble
