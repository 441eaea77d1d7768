// The tensor types of GGUF, those included that no codec of ours reads: a file's layout can be checked without them,
// and an error can name them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thimble {

struct GgufTensorType {
  int number = 0;  // ggml_type
  std::string_view name;
  int64_t block = 1;  // elements
  int64_t block_bytes = 0;
};

// nullptr when the number is unknown.
const GgufTensorType* find_gguf_tensor_type(int64_t number);

// "q4_K", or "of unknown number 99".
std::string gguf_tensor_type_name(int64_t number);

}  // namespace thimble
