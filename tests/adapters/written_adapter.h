// An adapter's folder as another tool would have written it: its configuration as text, and tensors.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "files/safetensors.h"

namespace thimble {

struct WrittenTensor {
  std::string name;
  Shape shape;
  std::function<float(int64_t element)> value = [](int64_t) { return 0.0f; };
};

inline void write_folder(const std::string& folder, const std::string& config,
                         const std::vector<WrittenTensor>& tensors) {
  ASSERT_TRUE(make_directories(folder));
  ASSERT_TRUE(write_text_file(folder + "/adapter_config.json", config));
  std::vector<SafetensorsTensor> list;
  for (const WrittenTensor& tensor : tensors) list.push_back({tensor.name, "F32", tensor.shape});
  auto writer = SafetensorsWriter::create(folder + "/adapter_model.safetensors", list);
  ASSERT_TRUE(writer);
  for (const WrittenTensor& tensor : tensors)
    for (int64_t i = 0; i < tensor.shape.count(); ++i) {
      const float x = tensor.value(i);
      ASSERT_TRUE(writer->write(std::as_bytes(std::span(&x, 1))));
    }
  ASSERT_TRUE(writer->finish());
}

}  // namespace thimble
