// The JSON header of a safetensors file, parsed as a stream: a hostile header of 100 MB costs no tree of values.
// Part of the safetensors reader; nothing else includes it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"
#include "core/shape.h"

namespace thimble {

struct SafetensorsHeader {
  struct Tensor {
    std::string name, dtype;
    Shape shape;
    uint64_t begin = 0, end = 0;  // within the data
  };
  std::vector<Tensor> tensors;  // in the order of the header
  std::map<std::string, std::string> metadata;
};

Result<SafetensorsHeader> parse_safetensors_header(std::string_view text, const std::string& path);

}  // namespace thimble
