// What trains: the backward pass and the states of what a selector leaves out are not there, and no bit of what is left
// depends on the budget.
#include "methods/selector.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "plan/selecting.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// What is asked of an option that was not declared is 0 in a release, and the end of any other build.
TEST(TrainingSpec, begins_with_the_options_of_its_techniques) {
  const TrainingSpec spec;
  const auto declared = [](std::span<const Option> options, const OptionValues& values) {
    for (const Option& option : options) EXPECT_TRUE(values.has(option.name)) << option.name;
  };
  declared(spec.optimizer->options, spec.optimizer_options);
  declared(spec.objective->options, spec.objective_options);
  declared(spec.estimator->options, spec.estimator_options);
  declared(spec.selector->options, spec.selector_options);
  EXPECT_GT(spec.optimizer_options["beta2"], 0);
}

TEST(Selector, last_layers_trains_those_and_stores_the_rest_as_their_file_does) {
  TrainingSpec spec = selecting(kLastLayers);
  spec.stored = [](const std::string& name) -> const Codec* {
    if (name == "lm_head.weight") return nullptr;
    return name.find("norm") == std::string::npos ? &kQ8_0 : &kF32;
  };
  set(spec, "layers", "1");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  for (const std::string& name : trained(*plan))
    EXPECT_TRUE(name.starts_with("model.layers.3.") || name == "model.norm.weight") << name;
  EXPECT_EQ(plan->train.parameters.size(), 10U);
  EXPECT_EQ(plan->layout.find("model.layers.2.mlp.up_proj.weight")->type.codec, &kQ8_0);
  EXPECT_EQ(plan->layout.find("model.layers.2.mlp.up_proj.weight")->role, Role::weight);
  EXPECT_EQ(plan->layout.find("model.layers.3.mlp.up_proj.weight")->type.codec, &kF32);
  const Layout& layout = plan->layout;
  EXPECT_EQ(layout.bytes(Role::parameter) + layout.bytes(Role::gradient) + layout.bytes(Role::state), declared(*plan));
  // Nothing of the backward pass is of a frozen layer.
  for (const Node& node : plan->train.graph.nodes())
    if (node.phase == Phase::backward) EXPECT_TRUE(node.block == 3 || node.block < 0) << node.op->name << node.block;
}

TEST(Selector, a_frozen_layer_costs_neither_memory_nor_time) {
  TrainingSpec spec = selecting(kLastLayers);
  int64_t bytes = 0;
  double seconds = 0;
  for (const char* layers : {"1", "2", "4"}) {
    set(spec, "layers", layers);
    const auto plan = plan_training(spec, Machine{});
    ASSERT_TRUE(plan);
    EXPECT_GT(plan->arena_bytes, bytes);
    EXPECT_GT(plan->seconds, seconds);
    bytes = plan->arena_bytes, seconds = plan->seconds;
  }
}

TEST(Selector, patterns_choose_by_name) {
  TrainingSpec spec = selecting(kPatterns);
  set(spec, "train", "q_proj|norm");
  set(spec, "freeze", "layers.0");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto names = trained(*plan);
  EXPECT_EQ(names.size(), 3U * 3 + 1);
  EXPECT_TRUE(names.contains("model.layers.1.self_attn.q_proj.weight"));
  EXPECT_FALSE(names.contains("model.layers.0.input_layernorm.weight"));
}

TEST(Selector, choices_that_make_no_sense_are_refused) {
  const auto refusal = [](const Selector& selector, std::string_view option, std::string_view value) {
    TrainingSpec spec = selecting(selector);
    if (!option.empty()) set(spec, option, value);
    const auto refused = plan_training(spec, Machine{});
    EXPECT_FALSE(refused);
    return refused ? "" : refused.error().message;
  };
  EXPECT_THAT(refusal(kPatterns, "", ""), HasSubstr("patterns.train="));
  EXPECT_THAT(refusal(kPatterns, "train", "q_porj"), AllOf(HasSubstr("'q_porj'"), HasSubstr("q_proj")));
  EXPECT_THAT(refusal(kPatterns, "freeze", "model"), HasSubstr("none trains"));
  EXPECT_THAT(refusal(kLastLayers, "layers", "5"), HasSubstr("the model has 4 layers"));
}

TEST(Selector, every_static_one_gives_the_same_bits_at_every_budget) {
  for (const Rewrite* method : {&kFull, &kLora}) {
    SCOPED_TRACE(method->name);
    expect_same_at_every_budget(selecting(kLastLayers, *method));
    TrainingSpec spec = selecting(kPatterns, *method);
    set(spec, "train", "q_proj|down_proj");
    spec.clip = 0;
    expect_same_at_every_budget(spec);
  }
}

// What trains moves as it does where all train, as long as the step is of one parameter alone: the gradient is the
// same.
TEST(Selector, the_gradient_is_that_of_the_whole_model) {
  TrainingSpec whole = tiny_spec();
  whole.clip = 0;
  TrainingSpec part = selecting(kLastLayers);
  part.clip = 0;
  set(part, "layers", "1");
  const auto all = plan_training(whole, Machine{}), some = plan_training(part, Machine{});
  ASSERT_TRUE(all && some);
  const Trajectory expected = run_plan(whole, *all, 1), found = run_plan(part, *some, 1);
  EXPECT_EQ(expected.losses, found.losses);
  size_t at = 0, compared = 0;
  const auto names = trained(*some);
  for (const TrainedParameter& parameter : by_name(*all)) {
    const auto count = static_cast<size_t>(parameter.shape.count());
    if (names.contains(parameter.name)) {
      const std::span mine(found.parameters.data() + compared, count), theirs(expected.parameters.data() + at, count);
      EXPECT_TRUE(std::ranges::equal(mine, theirs)) << parameter.name;
      compared += count;
    }
    at += count;
  }
  EXPECT_EQ(compared, found.parameters.size());
}

TEST(Selector, works_with_an_estimator) {
  TrainingSpec spec = selecting(kLastLayers);
  spec.estimator = &kMezo, spec.estimator_options = OptionValues(kMezo.options), spec.clip = 0;
  expect_same_at_every_budget(spec);
}

TrainingSpec lisa(std::string_view layers, std::string_view period, const Rewrite& method = kFull) {
  return drawing(kLisa, layers, period, method);
}

TEST(Lisa, draws_layers_by_seed_and_period_and_all_alike_often) {
  TrainingSpec spec = lisa("2", "1");
  const auto first = plan_training(spec, Machine{});
  ASSERT_TRUE(first) << first.error().message;
  std::map<int, int> times;
  std::set<std::set<int>> sets;
  constexpr int kDraws = 60;
  for (int draw = 0; draw < kDraws; ++draw) {
    const auto plan = plan_period(spec, Machine{}, *first, draw);
    ASSERT_TRUE(plan);
    const std::set<int> layers = drawn_layers(*plan);
    ASSERT_EQ(layers.size(), 2U);
    sets.insert(layers);
    for (const int layer : layers) ++times[layer];
    EXPECT_TRUE(trained(*plan).contains("model.embed_tokens.weight"));
    EXPECT_TRUE(plan->layout.same_places(first->layout));
  }
  EXPECT_EQ(sets.size(), 6U);
  for (const auto& [layer, count] : times) EXPECT_NEAR(count, kDraws / 2, 15) << layer;  // four standard deviations
  spec.seed = 1;
  std::set<std::set<int>> other;
  for (int draw = 0; draw < 4; ++draw) other.insert(drawn_layers(*plan_period(spec, Machine{}, *first, draw)));
  EXPECT_GT(other.size(), 1U);
}

TEST(Lisa, of_all_layers_for_the_whole_run_is_training_all_of_them) {
  for (const double clip : {1.0, 0.0}) {
    TrainingSpec whole = tiny_spec(), part = lisa("4", "100");
    whole.clip = part.clip = clip;
    const auto all = plan_training(whole, Machine{}), some = plan_training(part, Machine{});
    ASSERT_TRUE(all && some);
    EXPECT_EQ(run_plan(whole, *all, 3), run_plan(part, *some, 3));
  }
}

// States, gradients and what is kept are of the layers that train.
TEST(Lisa, memory_is_that_of_embeddings_head_and_the_layers_at_a_time) {
  const auto state_and_gradient = [](const TrainingPlan& plan) {
    return plan.layout.bytes(Role::state) + plan.layout.bytes(Role::gradient);
  };
  const auto all = plan_training(tiny_spec(), Machine{}), two = plan_training(lisa("2", "1"), Machine{});
  ASSERT_TRUE(all && two);
  int64_t expected = 0, layer = 0;
  for (const TrainedParameter& parameter : all->train.parameters) {
    const int64_t bytes = 3 * Type{parameter.shape}.bytes();
    (parameter.layer == 0 ? layer : expected) += parameter.layer <= 0 ? bytes : 0;
  }
  EXPECT_EQ(state_and_gradient(*two), expected + 2 * layer);
  EXPECT_LT(two->arena_bytes, all->arena_bytes);
  EXPECT_LT(two->seconds, all->seconds);
  EXPECT_EQ(two->layout.bytes(Role::parameter), all->layout.bytes(Role::parameter));
}

// After the first step of a period v = (1 - b2) g^2 and m = (1 - b1) g of the layers, so that v = m^2 / 10; embeddings
// go on with what they had.
TEST(Lisa, states_of_layers_begin_anew_with_every_period) {
  TrainingSpec spec = lisa("4", "2");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan);
  run_plan(spec, *plan, 3, 1e-2, [&](Values& values) {
    const auto read = [&](const std::string& name) {
      std::vector<float> out(static_cast<size_t>(plan->layout.find(name)->type.shape.count()));
      EXPECT_TRUE(values.read(*plan->layout.find(name), 0, std::as_writable_bytes(std::span(out))));
      return out;
    };
    const auto largest_error = [&](const std::string& of) {
      const std::vector<float> m = read("adamw.m." + of), v = read("adamw.v." + of);
      double error = 0, size = 0;
      for (size_t i = 0; i < m.size(); ++i) {
        error = std::max(error, std::abs(v[i] - 0.1 * m[i] * m[i]));
        size = std::max(size, static_cast<double>(v[i]));
      }
      return error / size;
    };
    EXPECT_LT(largest_error("slot.2.mlp.up_proj.weight"), 1e-5);
    EXPECT_GT(largest_error("model.embed_tokens.weight"), 0.05);
  });
}

TEST(Lisa, layers_that_rest_do_not_move) {
  TrainingSpec spec = lisa("1", "2");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan);
  const auto norms = [&](int steps) {
    std::map<int, std::vector<float>> out;
    run_plan(spec, *plan, steps, 1e-2, [&](Values& values) {
      for (int layer = 0; layer < 4; ++layer) {
        std::vector<float>& norm = out[layer] = std::vector<float>(64);
        const std::string name = fmt::format("model.layers.{}.input_layernorm.weight", layer);
        EXPECT_TRUE(values.read(*plan->layout.find(name), 0, std::as_writable_bytes(std::span(norm))));
      }
    });
    return out;
  };
  const auto before = norms(2), after = norms(3);
  const std::set<int> second = drawn_layers(*plan_period(spec, Machine{}, *plan, 1));
  for (int layer = 0; layer < 4; ++layer)
    EXPECT_EQ(before.at(layer) == after.at(layer), !second.contains(layer)) << layer;
}

// A period that was not planned before and needs more keeps less, and says so where that is not enough.
TEST(Lisa, a_period_keeps_to_the_room_there_is) {
  TrainingSpec spec = lisa("2", "1");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan);
  const int64_t less = plan->transient_bytes * 9 / 10;
  const auto tight = plan_period(spec, Machine{}, *plan, 1, {less, 0});
  ASSERT_TRUE(tight) << tight.error().message;
  EXPECT_LE(tight->transient_bytes, less);
  EXPECT_TRUE(tight->layout.same_places(plan->layout));
  const auto refused = plan_period(spec, Machine{}, *plan, 1, {1000, 0});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::over_budget);
}

// A run of any length is planned.
TEST(Lisa, plans_a_run_of_a_billion_steps) {
  TrainingSpec spec = lisa("1", "1");
  spec.steps = 1'000'000'000;
  EXPECT_TRUE(plan_training(spec, Machine{}));
}

TEST(Lisa, gives_the_same_bits_at_every_budget) {
  TrainingSpec spec = lisa("2", "1");
  expect_same_at_every_budget(spec);
  spec.clip = 0;
  expect_same_at_every_budget(spec);
}

// No code for any of the pairs.
TEST(Lisa, goes_with_optimizers_wrappers_codecs_methods_and_estimators) {
  std::vector<std::pair<const char*, TrainingSpec>> all;
  const auto add = [&](const char* name, const Rewrite& method = kFull) -> TrainingSpec& {
    return all.emplace_back(name, lisa("2", "2", method)).second;
  };
  for (const Optimizer* optimizer : {&kGalore, &kSoap, &kSgdSai, &kProdigy}) {
    TrainingSpec& spec = add(optimizer->name.data());
    spec.set_optimizer({optimizer, {}});
    if (OptionValues(optimizer->options).has("rank")) EXPECT_TRUE(spec.optimizer_options.set("t", "rank", 8.0));
  }
  add("lookahead").set_optimizer({&kAdamw, {&kLookahead}});
  add("8 bits").states = &kInt8Block;
  add("lora", kLora);
  TrainingSpec& mezo = add("mezo");
  mezo.estimator = &kMezo, mezo.estimator_options = OptionValues(kMezo.options), mezo.clip = 0;
  for (auto& [name, spec] : all) {
    SCOPED_TRACE(name);
    const auto plenty = plan_training(spec, Machine{});
    ASSERT_TRUE(plenty) << plenty.error().message;
    const Trajectory expected = run_plan(spec, *plenty, 3);
    for (const double loss : expected.losses) EXPECT_TRUE(std::isfinite(loss));
    for (const float number : expected.parameters) ASSERT_TRUE(std::isfinite(number));
    spec.disk = true, spec.disk_least_bytes = 4096, spec.budget_bytes = smallest_budget(spec);
    const auto least = plan_training(spec, Machine{.disk = {1e9, 1e9}});
    ASSERT_TRUE(least) << least.error().message;
    EXPECT_EQ(run_plan(spec, *least, 3), expected);
  }
}

TEST(Lisa, is_refused_where_it_means_nothing) {
  TrainingSpec spec = lisa("5", "1");
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("the model has 4 layers"));
  spec = lisa("2", "1");
  spec.set_optimizer({&kScheduleFree, {}});
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("schedule_free"));
  spec = lisa("1", "1");
  spec.keepers = {KeeperUse(kMesa)};
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("statistics of activations"));
  TrainingSpec outside = tiny_spec(kPromptTuning);
  outside.selector = &kLisa, outside.selector_options = OptionValues(kLisa.options);
  EXPECT_THAT(plan_training(outside, Machine{}).error().message, HasSubstr("nothing that trains is in a layer"));
}

// Scores decide: what fits the bytes, the most for a byte first.
TEST(Sparse, takes_what_contributes_most_for_its_bytes) {
  TrainingSpec spec = selecting(kSparse);
  const auto all = plan_training(tiny_spec(), Machine{});
  ASSERT_TRUE(all);
  for (const TrainedParameter& parameter : all->train.parameters) spec.scores[parameter.name] = 1e-6;
  spec.scores["model.layers.2.mlp.down_proj.weight"] = 5;
  spec.scores["model.embed_tokens.weight"] = 4;  // of 16 bytes an element 163840, which do not fit beside the other
  spec.scores["model.layers.1.self_attn.v_proj.weight"] = 1;
  set(spec, "bytes", "165000");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto names = trained(*plan);
  EXPECT_TRUE(names.contains("model.layers.2.mlp.down_proj.weight"));
  EXPECT_TRUE(names.contains("model.layers.1.self_attn.v_proj.weight"));
  EXPECT_FALSE(names.contains("model.embed_tokens.weight"));
  EXPECT_LE(declared(*plan), 165000);
  const Layout& layout = plan->layout;
  EXPECT_EQ(layout.bytes(Role::parameter) + layout.bytes(Role::gradient) + layout.bytes(Role::state), declared(*plan));
  EXPECT_LT(plan->arena_bytes, all->arena_bytes);
  EXPECT_LT(plan->seconds, all->seconds);
  expect_same_at_every_budget(spec);
  set(spec, "bytes", "1000");
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("takes 1024"));
  for (auto& [parameter, score] : spec.scores) score = 0;
  EXPECT_THAT(plan_training(spec, Machine{}).error().message, HasSubstr("are 0"));
}

TEST(Surgical, takes_the_layers_with_the_most_information) {
  TrainingSpec spec = selecting(kSurgical);
  const auto all = plan_training(tiny_spec(), Machine{});
  ASSERT_TRUE(all);
  for (const TrainedParameter& parameter : all->train.parameters) spec.scores[parameter.name] = parameter.layer % 3;
  set(spec, "layers", "2");
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan);
  EXPECT_EQ(drawn_layers(*plan), (std::set<int>{1, 2}));
}

}  // namespace
}  // namespace thimble
