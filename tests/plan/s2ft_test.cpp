// S2FT: the gradient of its columns is the whole weight's there, and its backward pass keeps those columns alone.
#include <gmock/gmock.h>

#include <cmath>
#include <set>
#include <tuple>

#include "plan/selection.h"
#include "plan/tiny_training.h"

namespace thimble {
namespace {

TrainingSpec plain_steps(const Rewrite& method) {
  TrainingSpec spec = tiny_spec(method);
  spec.set_optimizer({&kSgd, {}});
  spec.clip = 0;
  return spec;
}

// Values of the layout after so many steps, in f32.
std::map<std::string, std::vector<float>> values_after(const TrainingSpec& spec, const TrainingPlan& plan, int steps) {
  std::map<std::string, std::vector<float>> out;
  run_plan(spec, plan, steps, 1, [&](Values& values) {
    for (const auto& [name, entry] : plan.layout.entries()) {
      if (entry.type.codec != &kF32 && entry.type.codec != &kI32) continue;
      std::vector<float>& to = out[name] = std::vector<float>(static_cast<size_t>(entry.type.shape.count()));
      EXPECT_TRUE(values.read(entry, 0, std::as_writable_bytes(std::span(to))));
      if (entry.type.codec == &kI32)
        for (float& x : to) x = static_cast<float>(std::bit_cast<int32_t>(x));
    }
  });
  return out;
}

TEST(S2ft, moves_its_columns_as_training_the_whole_weight_does) {
  const TrainingSpec full = plain_steps(kFull), some = plain_steps(kS2ft);
  const auto whole = plan_training(full, Machine{}), part = plan_training(some, Machine{});
  ASSERT_TRUE(whole && part) << part.error().message;
  const auto before = values_after(full, *whole, 0), after = values_after(full, *whole, 1);
  const auto found = values_after(some, *part, 1);
  for (const auto& [layer, width] :
       {std::pair{"model.layers.1.mlp.down_proj", 128}, {"model.layers.2.self_attn.o_proj", 64}}) {
    const std::string name(layer);
    const auto &w0 = before.at(name + ".weight"), &w1 = after.at(name + ".weight"), &d = found.at(name + ".s2_D");
    const auto& channels = found.at(name + ".s2_channels");
    ASSERT_EQ(d.size(), 64 * channels.size());
    double error = 0, size = 0;
    for (size_t row = 0; row < 64; ++row)
      for (size_t i = 0; i < channels.size(); ++i) {
        const size_t at = row * static_cast<size_t>(width) + static_cast<size_t>(channels[i]);
        const double moved = w1[at] - w0[at];
        error = std::max(error, std::abs(d[row * channels.size() + i] - moved)), size = std::max(size, std::abs(moved));
      }
    EXPECT_GT(size, 1e-4) << name;
    EXPECT_LT(error, 1e-3 * size) << name;
  }
}

TEST(S2ft, chooses_whole_heads_and_another_key_others) {
  TrainingSpec spec = plain_steps(kS2ft);
  const auto channels = [&] {
    const auto plan = plan_training(spec, Machine{});
    EXPECT_TRUE(plan) << plan.error().message;
    return values_after(spec, *plan, 0).at("model.layers.0.self_attn.o_proj.s2_channels");
  };
  OptionValues& options = spec.rewrites.front().modules.at("model.layers.0.self_attn.o_proj").options;
  std::set<float> heads;
  for (double key = 0; key < 8; ++key) {
    ASSERT_TRUE(options.set("s2ft", "key", key));
    const std::vector<float> chosen = channels();
    ASSERT_EQ(chosen.size(), 16U);
    EXPECT_EQ(static_cast<int>(chosen.front()) % 16, 0);
    for (size_t i = 1; i < chosen.size(); ++i) EXPECT_EQ(chosen[i], chosen[i - 1] + 1);
    heads.insert(chosen.front());
  }
  EXPECT_GT(heads.size(), 1U);
}

TEST(S2ft, keeps_less_than_training_the_layers_whole) {
  TrainingSpec lora = tiny_spec(kLora);
  const auto with_lora = plan_training(lora, Machine{}), with_s2ft = plan_training(tiny_spec(kS2ft), Machine{});
  ASSERT_TRUE(with_lora && with_s2ft);
  EXPECT_LT(with_s2ft->transient_bytes, with_lora->transient_bytes);
}

std::map<std::string, AdaptedModule> layers_of(double numbers) {
  std::map<std::string, AdaptedModule> modules;
  for (const auto& [name, whole, group] : {std::tuple{"down", 10, 1}, {"o", 4, 2}, {"last", 4, 1}}) {
    AdaptedModule& module = modules[name];
    module.options = OptionValues(kS2ft.options);
    module.whole = whole, module.in_group = group;
    EXPECT_TRUE(module.options.set("s2ft", "numbers", numbers));
  }
  return modules;
}

// For a number: channel 1 of `down` has 3, 0 has 1; the heads of `o` have 2.5 and 0.25; `last` has nothing.
TEST(S2ft, chooses_layers_and_channels_by_what_they_contribute_for_a_number) {
  const Settling::Measured measured{{"down", {10, 30, 0}}, {"o", {15, 5, 1, 1}}, {"last", {0, 0}}};
  using testing::ElementsAre;
  auto modules = layers_of(20);
  const auto channels = [&](const char* name) { return modules.at(name).options.list("channels"); };
  ASSERT_TRUE(kS2ft.settling->settle(measured, modules));
  EXPECT_THAT(channels("down"), ElementsAre(1));
  EXPECT_THAT(channels("o"), ElementsAre(0, 1)) << "a head is chosen whole";
  EXPECT_THAT(channels("last"), ElementsAre());
  modules = layers_of(1000);
  ASSERT_TRUE(kS2ft.settling->settle(measured, modules));
  EXPECT_THAT(channels("down"), ElementsAre(0, 1)) << "what contributes nothing does not train";
  EXPECT_THAT(channels("o"), ElementsAre(0, 1, 2, 3));
  modules = layers_of(3);
  EXPECT_FALSE(kS2ft.settling->settle(measured, modules));
}

// What is left out has no gradient and no node: fewer seconds and bytes, whatever the lowest layer that trains.
TEST(S2ft, layers_without_channels_leave_the_backward_pass) {
  TrainingSpec some = plain_steps(kS2ft);
  const auto all = plan_training(some, Machine{});
  for (auto& [name, module] : some.rewrites.front().modules) {
    ASSERT_TRUE(module.options.set("s2ft", "numbers", 1e6));
    if (name == "model.layers.2.mlp.down_proj") ASSERT_TRUE(module.options.set("s2ft", "channels", {5, 90}));
    if (name == "model.layers.3.self_attn.o_proj") ASSERT_TRUE(module.options.set("s2ft", "channels", {16, 17}));
  }
  const auto plan = plan_training(some, Machine{});
  ASSERT_TRUE(plan && all) << plan.error().message;
  std::set<std::string> trained;
  for (const TrainedParameter& parameter : plan->train.parameters) trained.insert(parameter.name);
  EXPECT_THAT(trained,
              testing::ElementsAre("model.layers.2.mlp.down_proj.s2_D", "model.layers.3.self_attn.o_proj.s2_D"));
  EXPECT_EQ(plan->layout.bytes(Role::parameter), 4 * 2 * 2 * 64);
  EXPECT_LT(plan->seconds, 0.8 * all->seconds);
  EXPECT_LT(plan->transient_bytes, all->transient_bytes);
  expect_same_bits_at_the_smallest_budget_and_on_disk(some, 2);
}

// A weight that is probed: the squares of the columns of its gradient, which one step of descent shows.
TEST(S2ft, is_probed_for_the_gradient_of_every_channel) {
  const TrainingSpec probing = probing_spec(plain_steps(kS2ft), 0);
  const auto plan = plan_training(probing, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  for (const TrainedParameter& parameter : plan->train.parameters) {
    const Layout::Entry* const score = plan->layout.find(score_name(parameter.name));
    ASSERT_NE(score, nullptr) << parameter.name;
    EXPECT_EQ(score->type.shape, (Shape{parameter.shape[1]}));
  }
}

}  // namespace
}  // namespace thimble
