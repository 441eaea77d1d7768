// A small random model of any family, held in memory, to be written and read back.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/random.h"
#include "models/families.h"
#include "models/hf_config.h"
#include "models/row_stream.h"

namespace thimble {

Json tiny_config(const std::string& family);

// Of any family, through its config.json: numbers and epsilons that f32 holds.
Architecture tiny_architecture(const std::string& family);

struct MemoryModel {
  Architecture architecture;
  std::vector<ModelTensor> tensors;
  std::map<std::string, std::vector<float>> values;

  explicit MemoryModel(const Architecture& a) : architecture(a) {
    const Random random(1, "model");
    uint64_t next = 0;
    for (const TensorSpec& spec : tensor_specs(a)) {
      tensors.push_back({spec.name, &kF32, spec.shape});
      std::vector<float>& numbers = values[spec.name];
      for (int64_t i = 0; i < spec.shape.count(); ++i) numbers.push_back(random.normal(next++));
    }
  }

  ReadRows rows() const {
    return [this](const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) -> Result<void> {
      const int64_t columns = tensor.shape.columns();
      EXPECT_EQ(static_cast<int64_t>(to.size()), rows * columns * 4);
      std::memcpy(to.data(), values.at(tensor.name).data() + row * columns, to.size());
      return {};
    };
  }
};

// All of a tensor, decoded.
std::vector<float> read_all(const ModelSource& source, const ModelTensor& tensor);

// Every tensor of `source` has the model's values, whole and row by row; `apart` of numbers about 1.
void expect_same_weights(const ModelSource& source, const MemoryModel& model, float apart = 0);

}  // namespace thimble
