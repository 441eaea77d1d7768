#include "models/build.h"

#include <gtest/gtest.h>

#include "memory_model.h"

namespace thimble {
namespace {

// Gains and biases are read as f32 by all operations, whatever a file stores them in; matrices stay as stored.
TEST(Build, vectors_are_f32_matrices_as_stored) {
  for (const char* family : {"llama", "qwen2", "qwen3", "gpt2"}) {
    SCOPED_TRACE(family);
    BuildOptions options{.rows = 4, .positions = 4};
    options.codec = [](const std::string&, const Shape&) { return &kBf16; };
    Graph graph;
    const auto model = build_model(graph, tiny_architecture(family), options);
    ASSERT_TRUE(model) << model.error().message;
    int vectors = 0, matrices = 0;
    for (const Value& value : graph.values()) {
      if (value.role != Role::weight && value.role != Role::parameter) continue;
      const bool vector = value.type.shape.rank() == 1;
      EXPECT_EQ(value.type.codec, vector ? &kF32 : &kBf16) << value.name;
      ++(vector ? vectors : matrices);
    }
    EXPECT_GT(vectors, 0);
    EXPECT_GT(matrices, 0);
  }
}

}  // namespace
}  // namespace thimble
