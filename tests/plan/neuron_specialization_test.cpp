// Neuron specialization in training: its rows and columns move as those of whole weights do, others take no memory.
#include <gmock/gmock.h>

#include <cmath>

#include "plan/selection.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

const std::vector<double> kNeurons{3, 17, 40, 41, 127};  // of 128

TrainingSpec spec_of(const std::vector<double>& neurons) {
  TrainingSpec spec = tiny_spec(kNeuronSpecialization);
  for (auto& [name, module] : spec.rewrites.front().modules)
    EXPECT_TRUE(module.options.set("neuron_specialization", "neurons", neurons));
  return spec;
}

// One step of plain descent: D is what the whole weight's step is at its rows, or columns.
TEST(NeuronSpecialization, moves_its_neurons_as_training_the_whole_weights_does) {
  TrainingSpec full = tiny_spec(kFull), some = spec_of(kNeurons);
  for (TrainingSpec* spec : {&full, &some}) spec->set_optimizer({&kSgd, {}}), spec->clip = 0;
  const auto before = values_after(full, 0, 1), after = values_after(full, 1, 1), found = values_after(some, 1, 1);
  for (const auto& [layer, columns] : {std::pair{"model.layers.1.mlp.gate_proj", false},
                                       {"model.layers.3.mlp.up_proj", false},
                                       {"model.layers.2.mlp.down_proj", true}}) {
    const std::string name(layer);
    const auto &w0 = before.at(name + ".weight"), &w1 = after.at(name + ".weight"), &d = found.at(name + ".ns_D");
    ASSERT_EQ(d.size(), 64 * kNeurons.size());
    double error = 0, size = 0;
    for (size_t i = 0; i < kNeurons.size(); ++i)
      for (size_t k = 0; k < 64; ++k) {
        const auto neuron = static_cast<size_t>(kNeurons[i]);
        const size_t at = columns ? k * 128 + neuron : neuron * 64 + k;
        const double moved = double{w1[at]} - double{w0[at]};
        error = std::max(error, std::abs(double{d[columns ? k * kNeurons.size() + i : i * 64 + k]} - moved));
        size = std::max(size, std::abs(moved));
      }
    EXPECT_GT(size, 1e-4) << name;
    EXPECT_LT(error, 2e-3 * size) << name;
  }
}

TEST(NeuronSpecialization, takes_memory_for_its_neurons_alone) {
  const auto few = plan_training(spec_of(kNeurons), Machine{}), all = plan_training(spec_of({}), Machine{});
  ASSERT_TRUE(few && all) << few.error().message;
  EXPECT_EQ(few->layout.bytes(Role::parameter), 4 * 3 * 4 * 64 * std::ssize(kNeurons));
  EXPECT_EQ(all->layout.bytes(Role::parameter), 4 * 3 * 4 * 64 * 128);
  EXPECT_EQ(few->layout.bytes(Role::state), 2 * few->layout.bytes(Role::parameter));
  EXPECT_NE(few->numerics_hash, plan_training(spec_of({3, 17, 40, 41, 126}), Machine{})->numerics_hash);
}

TEST(NeuronSpecialization, trains_the_same_bits_at_the_smallest_budget_and_on_disk) {
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec_of(kNeurons), 3);
}

// The counts of a pass are the gradient of the probe: whole numbers, of at most its tokens.
TEST(NeuronSpecialization, is_probed_by_a_pass_without_a_step) {
  const TrainingSpec spec = tiny_spec(kNeuronSpecialization), probing = probing_spec(spec, 0);
  const auto plan = plan_training(probing, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  ASSERT_EQ(plan->train.parameters.size(), 4U) << "one a block";
  for (const TrainedParameter& parameter : plan->train.parameters) {
    EXPECT_EQ(parameter.name.substr(parameter.name.size() - kProbe.size()), kProbe);
    EXPECT_EQ(parameter.shape, (Shape{1, 128}));
    EXPECT_NE(plan->layout.find(score_name(parameter.name)), nullptr);
  }
}

}  // namespace
}  // namespace thimble
