// Tokens that llama.cpp takes for ends of a text by their names (llama-vocab.cpp, special_eog_ids), as GGUF files need
// not say which they are.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

namespace thimble {

// The names of those that are `there`, but for what llama.cpp takes off its list in such a vocabulary.
std::vector<std::string_view> end_names(const std::function<bool(std::string_view)>& there);

// A token that ends texts too, where a vocabulary is for filling in or for files one behind another.
struct InfillEnd {
  const char* key;                      // of the GGUF file that says its id
  std::vector<std::string_view> names;  // otherwise
};
const std::vector<InfillEnd>& infill_ends();

}  // namespace thimble
