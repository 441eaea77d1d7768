// DSEE: the equation once more, and where its numbers are.
#include <cmath>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

constexpr int64_t kRows = 5, kIn = 12, kOut = 7, kRank = 2;

TEST(Dsee, adds_a_product_and_its_numbers) {
  AdaptedLinear layer(kDsee, {{"rank", kRank}, {"alpha", 6}, {"sparse", 2}}, kRows, kIn, kOut);
  auto& places = layer.own("dsee_places");
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<double>(i % 2 * 5 + i / 2 % 5);
  const std::vector<double>& y = layer.run();
  const auto &x = layer.at("x"), &a = layer.own("lora_A.weight"), &b = layer.own("lora_B.weight");
  std::vector<double> w = layer.own("weight");
  for (size_t i = 0; i < places.size(); ++i) w[i / 2 * kIn + static_cast<size_t>(places[i])] += layer.own("dsee_S")[i];
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kOut; ++column) {
      double expected = dot(x, w, row, column, kIn);
      for (int64_t r = 0; r < kRank; ++r)
        expected += 3 * dot(x, a, row, r, kIn) * b[static_cast<size_t>(column * kRank + r)];
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)], expected, 1e-4);
    }
}

// A weight of rank 1 but for one number of each row: that is the place.
TEST(Dsee, begins_where_low_rank_says_least) {
  Graph graph;
  AdaptedModule module;
  module.name = module.owner = "layer";
  module.options = OptionValues(kDsee.options);
  ASSERT_TRUE(module.options.set("dsee", "rank", 1));
  std::map<std::string, ValueId> made;
  std::map<std::string, AdapterTensor> tensors;
  ModuleRewrite m(graph, module, made, tensors, Role::weight);
  m.out = kOut, m.in = kIn;
  m.w = graph.add_value("w", {{kOut, kIn}}, Role::weight);
  const auto begun = kDsee.begin(m);
  ASSERT_EQ(begun.size(), 1U);
  ReferenceValues values;
  const auto odd = [](int64_t row) { return (5 * row + 3) % kIn; };
  for (int64_t row = 0; row < kOut; ++row)
    for (int64_t column = 0; column < kIn; ++column)
      values[m.w].push_back((1 + 0.1 * static_cast<double>(row)) * (2 + std::cos(column)) +
                            (column == odd(row) ? 0.5 : 0));
  Threads threads(1);
  RunContext context{threads, Multiply::f32, 0, 0, 0};
  run_reference(graph, values, context);
  for (int64_t row = 0; row < kOut; ++row)
    EXPECT_EQ(values.at(begun[0].second)[static_cast<size_t>(row)], static_cast<double>(odd(row))) << row;
}

}  // namespace
}  // namespace thimble
