// A small model with one residual stream as a technique changes it, run by the scalar references in double.
#pragma once

#include <cmath>

#include "methods/adapted_linear.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {

using Row = std::vector<double>;

// Blocks x + W x and a copy for a head.
struct StreamedModel {
  static constexpr int64_t kRows = 3, kBlocks = 4;

  Result<Rewritten> made = fail(ErrorCode::unsupported, "not made");
  ReferenceValues values;

  StreamedModel(const Rewrite& technique, int64_t width,
                const std::vector<std::pair<std::string_view, double>>& options)
      : width(width) {
    Graph plain;
    ModelTaps taps;
    const auto copied = [&](ValueId of, const std::string& name) {
      PointwiseBuilder b;
      b.output(b.tensor());
      return plain.emit(kPointwise, b.attributes(), {of}, name);
    };
    ValueId x = copied(plain.add_value("x", {{kRows, width}, &kF32, Extent::tokens}, Role::input), "embedded");
    taps.streams = {x};
    for (int b = 0; b < kBlocks; ++b) {
      plain.set_block(b);
      const ValueId w = plain.add_value(weight(b), {{width, width}}, Role::weight);
      x = plain.emit(kLinear, LinearAttributes{}, {x, w, kNone, x}, fmt::format("stream.{}", b));
      taps.streams.push_back(x);
    }
    plain.set_block(-1);
    plain.value(copied(x, "head")).role = Role::result;
    AdaptedModule module;
    module.name = module.owner = "model.embed_tokens";
    module.options = OptionValues(technique.options);
    for (const auto& [name, value] : options) EXPECT_TRUE(module.options.set(technique.name, name, value));
    RewriteSpec spec{.rewrite = &technique};
    spec.modules[module.name] = module;
    PassLog log;
    made = rewrite_model(std::move(plain), {{spec}}, RewriteUse::infer, log, taps);
    if (!made) return;
    EXPECT_TRUE(made->graph.verify());
    fill_sources(made->graph, values, 3);
    Threads threads(1);
    RunContext context{threads, Multiply::f32, 0, 0, 0};
    run_reference(made->graph, values, context);
  }
  static std::string weight(int64_t block) { return fmt::format("model.layers.{}.weight", block); }
  const Row& at(const std::string& name) { return values.at(made->graph.find(name)); }
  // What block `b` makes of rows.
  Row block(int64_t b, const Row& x) {
    Row y = x;
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t i = 0; i < width; ++i)
        y[static_cast<size_t>(row * width + i)] += dot(x, at(weight(b)), row, i, width);
    return y;
  }
  // The model's own stream behind so many blocks.
  Row stream(int64_t blocks) {
    Row x = at("x");
    for (int64_t b = 0; b < blocks; ++b) x = block(b, x);
    return x;
  }

  const int64_t width;
};

inline void expect_near(const Row& found, const Row& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-4 * (1 + std::abs(expected[i]))) << i;
}

}  // namespace thimble
