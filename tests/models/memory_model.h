// A small random model of any family, held in memory, to be written and read back.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "core/random.h"
#include "models/row_stream.h"

namespace thimble {

inline Architecture tiny_architecture(const std::string& family) {
  Architecture a;
  a.family = family;
  a.vocab = 11;
  a.width = 12;
  a.layers = 2;
  a.heads = 3;
  a.kv_heads = family == "gpt2" ? 3 : 1;
  a.head_dim = family == "qwen3" ? 8 : 4;
  a.ffn_width = 20;
  a.context = 16;
  a.norm_epsilon = 0x1p-17;  // the same in f32
  a.qk_norm = family == "qwen3";
  a.qkv_bias = family == "qwen2" || family == "gpt2";
  a.tied = family == "gpt2";
  if (family == "mistral") a.window = 8;
  if (family == "gpt2") {
    a.norm = Architecture::Norm::layer;
    a.ffn = Architecture::Ffn::gelu_tanh;
    a.position = Architecture::Position::learned;
    a.linear_bias = true;
  }
  return a;
}

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
inline std::vector<float> read_all(const ModelSource& source, const ModelTensor& tensor) {
  std::vector<std::byte> bytes(tensor.shape.rows() * tensor.codec->bytes(tensor.shape.columns()));
  const auto done = source.read(tensor, 0, tensor.shape.rows(), bytes);
  EXPECT_TRUE(done) << done.error().message;
  std::vector<float> numbers(tensor.shape.count());
  tensor.codec->decode(bytes.data(), numbers.data(), tensor.shape.count());
  return numbers;
}

// Every tensor of `source` has the model's values, whole and row by row.
inline void expect_same_weights(const ModelSource& source, const MemoryModel& model) {
  ASSERT_EQ(source.tensors().size(), model.tensors.size());
  for (size_t i = 0; i < model.tensors.size(); ++i) {
    const ModelTensor& tensor = source.tensors()[i];
    SCOPED_TRACE(tensor.name);
    ASSERT_EQ(tensor.name, model.tensors[i].name);
    ASSERT_EQ(tensor.shape, model.tensors[i].shape);
    const std::vector<float>& expected = model.values.at(tensor.name);
    const std::vector<float> whole = read_all(source, tensor);
    EXPECT_EQ(whole, expected);
    const int64_t row = tensor.shape.rows() - 1, columns = tensor.shape.columns();
    std::vector<float> last(columns);
    std::vector<std::byte> bytes(tensor.codec->bytes(columns));
    ASSERT_TRUE(source.read(tensor, row, 1, bytes));
    tensor.codec->decode(bytes.data(), last.data(), columns);
    EXPECT_TRUE(std::equal(last.begin(), last.end(), expected.end() - columns));
  }
}

}  // namespace thimble
