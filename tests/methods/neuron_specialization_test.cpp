// Neuron specialization: the layer by hand, which neurons are chosen, and what is counted of them.
#include <gmock/gmock.h>

#include "methods/adapted_linear.h"

namespace thimble {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int64_t kRows = 6, kIn = 5, kOut = 7;

TEST(NeuronSpecialization, moves_the_rows_of_its_neurons) {
  AdaptedLinear layer(kNeuronSpecialization, {{"neurons", 3}}, kRows, kIn, kOut);
  const std::vector<double>& y = layer.run();
  const auto &x = layer.at("x"), &w = layer.own("weight"), &d = layer.own("ns_D");
  ASSERT_EQ(d.size(), static_cast<size_t>(kIn)) << "one row";
  for (int64_t row = 0; row < kRows; ++row)
    for (int64_t column = 0; column < kOut; ++column) {
      const double moved = column == 3 ? dot(x, d, row, 0, kIn) : 0;
      EXPECT_NEAR(y[static_cast<size_t>(row * kOut + column)], dot(x, w, row, column, kIn) + moved, 1e-5);
    }
}

std::map<std::string, AdaptedModule> ffn(double threshold) {
  std::map<std::string, AdaptedModule> modules;
  for (const char* name : {"model.layers.0.mlp.gate_proj", "model.layers.0.mlp.down_proj", "model.layers.1.mlp.up_proj",
                           "model.layers.1.mlp.down_proj"}) {
    modules[name].options = OptionValues(kNeuronSpecialization.options);
    EXPECT_TRUE(modules[name].options.set("", "threshold", threshold));
  }
  return modules;
}

// Of 100 activations 40 + 30 reach seven tenths; of equal ones the first count.
TEST(NeuronSpecialization, takes_the_most_active_neurons_of_each_ffn) {
  auto modules = ffn(0.7);
  const Settling::Measured measured{{"model.layers.0.mlp.down_proj", {10, 30, 5, 40, 15}},
                                    {"model.layers.1.mlp.down_proj", {2, 2, 2, 0, 2}}};
  const auto said = kNeuronSpecialization.settling->settle(measured, modules);
  ASSERT_TRUE(said) << said.error().message;
  EXPECT_THAT(*said, HasSubstr("5 of 10 neurons"));
  const auto chosen = [&](const char* name) { return modules.at(name).options.list("neurons"); };
  EXPECT_THAT(chosen("model.layers.0.mlp.gate_proj"), ElementsAre(1, 3));
  EXPECT_THAT(chosen("model.layers.0.mlp.down_proj"), ElementsAre(1, 3));
  EXPECT_THAT(chosen("model.layers.1.mlp.up_proj"), ElementsAre(0, 1, 2));
  modules = ffn(1);
  ASSERT_TRUE(kNeuronSpecialization.settling->settle(measured, modules));
  EXPECT_EQ(chosen("model.layers.0.mlp.down_proj").size(), 5U);
  EXPECT_THAT(chosen("model.layers.1.mlp.down_proj"), ElementsAre(0, 1, 2, 4)) << "who is never active does not train";
}

TEST(NeuronSpecialization, refuses_lists_that_name_no_neurons) {
  const auto check = [](std::vector<double> neurons) {
    OptionValues options(kNeuronSpecialization.options);
    EXPECT_TRUE(options.set("", "neurons", std::move(neurons)));
    return kNeuronSpecialization.check(options, 4, 8);
  };
  EXPECT_TRUE(check({0, 3, 7}));
  EXPECT_THAT(check({3, 3}).error().message, HasSubstr("ascend"));
  EXPECT_THAT(check({5, 2}).error().message, HasSubstr("ascend"));
  EXPECT_THAT(check({0, 8}).error().message, HasSubstr("no neuron 8"));
}

// An FFN that is probed: the loss of a token is the sum of the probe over the neurons that are positive on it, so that
// the gradient of the probe counts tokens.
TEST(NeuronSpecialization, counts_the_tokens_that_a_neuron_is_positive_on) {
  Graph plain;
  const ValueId x = plain.add_value("x", {{kRows, kIn}, &kF32, Extent::tokens}, Role::input);
  const auto linear = [&](ValueId of, const std::string& name, int64_t out) {
    const int64_t in = plain.value(of).type.shape.columns();
    const ValueId w = plain.add_value(name + ".weight", {{out, in}}, Role::weight);
    return plain.emit(kLinear, LinearAttributes{}, {of, w, kNone, kNone}, name);
  };
  const std::string mlp = "model.layers.0.mlp.";
  const ValueId gate = linear(x, mlp + "gate_proj", kOut), up = linear(x, mlp + "up_proj", kOut);
  const ValueId act = plain.emit(kActivation, ActivationAttributes{}, {gate, up}, "act");
  plain.value(linear(act, mlp + "down_proj", kIn)).role = Role::result;
  RewriteSpec spec{.rewrite = &kNeuronSpecialization};
  for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
    AdaptedModule& module = spec.modules[mlp + name];
    module.name = module.owner = mlp + name;
    module.options = OptionValues(kNeuronSpecialization.options);
    module.probed = true;
  }
  PassLog log;
  auto made = rewrite_model(std::move(plain), {{spec}}, RewriteUse::train, log);
  ASSERT_TRUE(made) << made.error().message;
  ASSERT_EQ(made->losses.size(), 1U);
  ASSERT_EQ(made->tensors.size(), 1U) << "the probe is all that trains";
  ReferenceValues values;
  fill_sources(made->graph, values, 3);
  Threads threads(1);
  RunContext context{threads, Multiply::f32, 0, 0, 0};
  run_reference(made->graph, values, context);
  const auto& probe = values.at(made->graph.find(mlp + "down_proj" + std::string(kProbe)));
  const auto& gates = values.at(made->graph.find(mlp + "gate_proj"));
  for (int64_t row = 0; row < kRows; ++row) {
    double expected = 0;
    for (int64_t j = 0; j < kOut; ++j)
      if (gates[static_cast<size_t>(row * kOut + j)] > 0) expected += probe[static_cast<size_t>(j)];
    EXPECT_NEAR(values.at(made->losses[0])[static_cast<size_t>(row)], expected, 1e-6);
  }
}

}  // namespace
}  // namespace thimble
