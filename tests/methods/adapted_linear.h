// One linear layer as a technique changes it, run by the scalar references in double.
#pragma once

#include <gtest/gtest.h>

#include "core/random.h"
#include "methods/rewrite.h"
#include "ops/reference_graph.h"
#include "ops/table.h"

namespace thimble {

class AdaptedLinear {
 public:
  // x [rows, in] and the weight [out, in], of block `layer` of `layers`.
  AdaptedLinear(const Rewrite& technique, const std::vector<std::pair<const char*, double>>& options, int64_t rows,
                int64_t in, int64_t out, int64_t layer = 0, int64_t layers = 1, RewriteUse use = RewriteUse::infer)
      : name(fmt::format("model.layers.{}.mlp.up_proj", layer)) {
    AdaptedModule module;
    module.name = module.owner = name;
    module.whole = module.largest_out = out, module.largest_in = in;
    module.layer = layer, module.layers = layers;
    module.options = OptionValues(technique.options);
    for (const auto& [option, value] : options) EXPECT_TRUE(module.options.set(technique.name, option, value));
    Graph plain;
    const ValueId x = plain.add_value("x", {{rows, in}, &kF32, Extent::tokens}, Role::input);
    const ValueId w = plain.add_value(name + ".weight", {{out, in}}, Role::weight);
    plain.value(plain.emit(kLinear, LinearAttributes{}, {x, w, kNone, kNone}, "plain")).role = Role::result;
    RewriteSpec spec{.rewrite = &technique};
    spec.modules[name] = module;
    PassLog log;
    auto made = rewrite_model(std::move(plain), {{spec}}, use, log);
    EXPECT_TRUE(made) << made.error().message;
    graph = std::move(made->graph), losses = std::move(made->losses);
    for (size_t i = 0; i < graph.values().size(); ++i)
      if (graph.producer(static_cast<ValueId>(i)) < 0) begin(static_cast<ValueId>(i));
  }

  // What the layer makes of x.
  const std::vector<double>& run() {
    Threads threads(1);
    RunContext context{threads, Multiply::f32, 0, 0, 0};
    run_reference(graph, values, context);
    return values.at(graph.find("plain"));
  }
  std::vector<double>& at(const std::string& value) { return values.at(graph.find(value)); }
  // Of the technique: "lora_A" of the layer.
  std::vector<double>& own(const std::string& suffix) { return at(name + "." + suffix); }

  const std::string name;
  Graph graph;
  std::vector<ValueId> losses;  // in training: of tokens, beside the objective
  ReferenceValues values;

 private:
  // Tables as they are; all else normal, whatever the technique begins with.
  void begin(ValueId id) {
    const Value& value = graph.value(id);
    std::vector<double>& to = values[id];
    for (int64_t i = 0; i < value.type.shape.count(); ++i)
      to.push_back(Random(3, value.name).normal(static_cast<uint64_t>(i)));
    if (value.initial.kind != Initial::Kind::table) return;
    std::vector<float> table(to.size());
    (*value.initial.fill)(0, value.type.shape.count(), table.data());
    to.assign(table.begin(), table.end());
  }
};

// sum over k of a[row, k] b[column, k].
inline double dot(const std::vector<double>& a, const std::vector<double>& b, int64_t row, int64_t column, int64_t n) {
  double sum = 0;
  for (int64_t k = 0; k < n; ++k) sum += a[static_cast<size_t>(row * n + k)] * b[static_cast<size_t>(column * n + k)];
  return sum;
}

}  // namespace thimble
