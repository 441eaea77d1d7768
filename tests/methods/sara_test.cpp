// SaRA: the places of a row's smallest numbers, what stands there at first, and the weight that its numbers make.
#include <algorithm>
#include <cmath>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 5, kIn = 12, kOut = 7, kCount = 3;  // a quarter of a row

TEST(Sara, puts_its_numbers_at_their_places) {
  AdaptedLinear layer(kSara, {{"ratio", 0.25}}, kRows, kIn, kOut);
  auto& places = layer.own("sara_places");
  ASSERT_EQ(places.size(), static_cast<size_t>(kOut * kCount));
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<double>(i % kCount * 4 + i / kCount % 4);
  const std::vector<double>& y = layer.run();
  std::vector<double> w = layer.own("weight");
  for (size_t i = 0; i < places.size(); ++i)
    w[i / kCount * kIn + static_cast<size_t>(places[i])] = layer.own("sara_P")[i];
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kOut; ++column)
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)], dot(layer.at("x"), w, row, column, kIn), 1e-4);
}

TEST(Sara, begins_with_the_smallest_numbers_of_every_row) {
  Graph graph;
  AdaptedModule module;
  module.name = module.owner = "layer";
  module.options = OptionValues(kSara.options);
  ASSERT_TRUE(module.options.set("sara", "ratio", 0.25));
  std::map<std::string, ValueId> made;
  std::map<std::string, AdapterTensor> tensors;
  ModuleRewrite m(graph, module, made, tensors, Role::weight);
  m.out = kOut, m.in = kIn;
  m.w = graph.add_value("w", {{kOut, kIn}}, Role::weight);
  const auto begun = kSara.begin(m);
  ASSERT_EQ(begun.size(), 2U);
  ReferenceValues values;
  for (int64_t i = 0; i < kOut * kIn; ++i) values[m.w].push_back(Random(3, "w").normal(static_cast<uint64_t>(i)));
  Threads threads(1);
  RunContext context{threads, Multiply::f32, 0, 0, 0};
  run_reference(graph, values, context);
  const auto &places = values.at(begun[0].second), &numbers = values.at(begun[1].second), &w = values.at(m.w);
  for (size_t row = 0; row < kOut; ++row) {
    std::vector<double> sizes;
    for (size_t c = 0; c < kIn; ++c) sizes.push_back(std::abs(w[row * kIn + c]));
    std::ranges::sort(sizes);
    for (size_t j = 0; j < kCount; ++j) {
      const double number = numbers[row * kCount + j];
      EXPECT_LE(std::abs(number), sizes[kCount - 1]);
      EXPECT_EQ(number, w[row * kIn + static_cast<size_t>(places[row * kCount + j])]);
      if (j > 0) EXPECT_LT(places[row * kCount + j - 1], places[row * kCount + j]);
    }
  }
}

}  // namespace
}  // namespace thimble
