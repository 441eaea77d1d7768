// Every optimizer of the table against its equations, written once more in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "core/random.h"
#include "graph/op.h"
#include "methods/optimizer_run.h"

namespace thimble {
namespace {

constexpr int64_t kCount = 1237;  // not a multiple of any tile or vector

// One element of one step: the parameter and its states are changed in place.
struct Element {
  double p, g;
  std::vector<double> s;
};
struct Setting {
  double lr, decay;
  int64_t t;  // from 1
};
using Equation = std::function<void(const OptionValues&, const Setting&, Element&)>;

void adamw(const OptionValues& o, const Setting& c, Element& e) {
  double &m = e.s[0], &v = e.s[1];
  m = o["beta1"] * m + (1 - o["beta1"]) * e.g;
  v = o["beta2"] * v + (1 - o["beta2"]) * e.g * e.g;
  const double mean = m / (1 - std::pow(o["beta1"], static_cast<double>(c.t)));
  const double square = v / (1 - std::pow(o["beta2"], static_cast<double>(c.t)));
  e.p = e.p - c.lr * c.decay * e.p - c.lr * mean / (std::sqrt(square) + o["epsilon"]);
}

void lion(const OptionValues& o, const Setting& c, Element& e) {
  double& m = e.s[0];
  const double step = o["beta1"] * m + (1 - o["beta1"]) * e.g;
  e.p -= c.lr * ((step > 0) - (step < 0) + c.decay * e.p);
  m = o["beta2"] * m + (1 - o["beta2"]) * e.g;
}

void sgd(const OptionValues& o, const Setting& c, Element& e) {
  const double g = e.g + c.decay * e.p, mu = o["momentum"];
  if (mu == 0) {
    e.p -= c.lr * g;
    return;
  }
  e.s[0] = mu * e.s[0] + g;
  e.p -= c.lr * (o["nesterov"] > 0 ? g + mu * e.s[0] : e.s[0]);
}

// A new optimizer brings its equation here where it moves element by element; others have a test of their own.
const std::map<std::string_view, Equation> kEquations = {{"adamw", adamw}, {"lion", lion}, {"sgd", sgd}};
const std::map<std::string_view, std::vector<std::vector<std::pair<const char*, const char*>>>> kSettings = {
    {"sgd", {{{"momentum", "0.9"}}, {{"momentum", "0.9"}, {"nesterov", "1"}}}},
    {"adamw", {{{"beta1", "0.5"}, {"epsilon", "0.001"}}}},
};

// Five steps beside the equation: f32 arithmetic may differ by a few roundings of the step.
void compare(const Optimizer& optimizer, const OptionValues& options, double decay, bool clipped) {
  SCOPED_TRACE(fmt::format("{} {} decay {} clipped {}", optimizer.name, options.text(), decay, clipped));
  const Parameter parameter{"p", {kCount}, true};
  OptimizerRun run(optimizer, options, parameter, decay);
  run.set_parameter(normals(kCount, 7));
  const std::vector<StateSpec> states = optimizer.states(parameter, options);
  std::vector<Element> elements(kCount);
  const std::vector<float> begun = run.parameter();
  for (size_t i = 0; i < elements.size(); ++i) elements[i] = {begun[i], 0, std::vector<double>(states.size(), 0)};
  const double lr = optimizer.learning_rate, clip = clipped ? 0.25 : 1;
  for (int64_t t = 1; t <= 5; ++t) {
    const std::vector<float> g = normals(kCount, 100 + static_cast<uint64_t>(t));
    for (size_t i = 0; i < elements.size(); ++i) {
      elements[i].g = clip * g[i];
      kEquations.at(optimizer.name)(options, {static_cast<float>(lr), decay, t}, elements[i]);
    }
    run.step(lr, t, clipped ? clip : -1, g);
  }
  std::vector<double> p;
  for (const Element& element : elements) p.push_back(element.p);
  expect_near(run.parameter(), p, 5e-6);
  for (size_t s = 0; s < states.size(); ++s) {
    std::vector<double> expected;
    for (const Element& element : elements) expected.push_back(element.s[s]);
    expect_near(run.state(states[s].name), expected, 2e-6);
  }
}

TEST(Optimizers, follow_their_equations) {
  for (const auto& [name, equation] : kEquations) {
    const Optimizer& optimizer = **optimizer_named(name);
    std::vector<OptionValues> settings = {OptionValues(optimizer.options)};
    if (const auto found = kSettings.find(optimizer.name); found != kSettings.end())
      for (const auto& pairs : found->second) {
        OptionValues options(optimizer.options);
        for (const auto& [option, value] : pairs) ASSERT_TRUE(options.set("optimizer", option, value));
        settings.push_back(options);
      }
    for (const OptionValues& options : settings)
      for (double decay : {0.0, 0.1})
        for (bool clipped : {false, true}) compare(optimizer, options, decay, clipped);
  }
}

// Kinds of parameters that optimizers tell apart.
const Parameter kKinds[] = {
    {"p", {96, 160}, true}, {"p", {160, 96}, true}, {"p", {160, 96}, false}, {"p", {160}, true}};

// Every state that is declared is used, the parameter moves, and nothing is left that is not finite.
TEST(Optimizers, use_the_states_that_they_declare) {
  for (const Optimizer* optimizer : optimizers())
    for (const Parameter& kind : kKinds) {
      SCOPED_TRACE(fmt::format("{} {} in a block: {}", optimizer->name, kind.shape.text(), kind.in_block));
      const OptionValues options(optimizer->options);
      OptimizerRun run(*optimizer, options, kind, 0.1);
      const auto count = static_cast<size_t>(kind.shape.count());
      run.set_parameter(normals(count, 1));
      const std::vector<float> before = run.parameter();
      // Gradients that agree from step to step, so that a rate that is found grows too.
      const std::vector<float> common = normals(count, 10);
      const int64_t steps = optimizer->finds_rate ? 20 : 3;
      for (int64_t t = 1; t <= steps; ++t) {
        std::vector<float> g = normals(count, 10 + static_cast<uint64_t>(t), 0.3);
        for (size_t i = 0; i < count; ++i) g[i] += common[i];
        run.step(optimizer->finds_rate ? 1 : 0.1, t, 0.5, g);
        if (optimizer->hooks.curvature) run.measure_curvature(t, g, 64);
      }
      EXPECT_NE(run.parameter(), before);
      for (float x : run.parameter()) ASSERT_TRUE(std::isfinite(x));
      for (const StateSpec& state : optimizer->states(kind, options)) {
        const std::vector<float> values = run.state(state.name);
        EXPECT_TRUE(std::any_of(values.begin(), values.end(), [&](float x) {
          return x != static_cast<float>(state.initial);
        })) << state.name;
      }
    }
}

// A codec of the states is no business of an optimizer's: with every one it moves nearly as in f32.
TEST(Optimizers, keep_their_states_in_any_codec) {
  for (const Optimizer* optimizer : optimizers())
    for (const Parameter& kind : kKinds) {
      const OptionValues options(optimizer->options);
      const auto count = static_cast<size_t>(kind.shape.count());
      const auto trained = [&](const Codec& states) {
        OptimizerRun run(*optimizer, options, kind, 0, states);
        for (int64_t t = 1; t <= 4; ++t) {
          run.step(1e-2, t, -1, normals(count, 10 + static_cast<uint64_t>(t)));
          if (optimizer->hooks.curvature) run.measure_curvature(t, normals(count, 20 + static_cast<uint64_t>(t)), 64);
        }
        return std::pair{run.parameter(), run.state_bytes()};
      };
      const auto [exact, exact_bytes] = trained(kF32);
      double length = 0;
      for (float x : exact) length += static_cast<double>(x) * x;
      for (const Codec* codec : {&kBf16, &kInt8Block, &kFp8}) {
        SCOPED_TRACE(fmt::format("{} {} {}", optimizer->name, kind.shape.text(), codec->name));
        const auto [moved, bytes] = trained(*codec);
        double apart = 0;
        for (size_t i = 0; i < moved.size(); ++i) apart += std::pow(double{moved[i]} - double{exact[i]}, 2);
        EXPECT_LT(std::sqrt(apart / length), 0.15);
        int64_t expected = 0;
        for (const StateSpec& state : optimizer->states(kind, options)) {
          const StateSpec as = coded(state, *codec);
          expected += Type{as.shape, as.codec}.bytes();
        }
        EXPECT_EQ(bytes, expected);
        EXPECT_LE(bytes, exact_bytes);
      }
    }
}

TEST(Optimizers, options_keep_their_bounds) {
  for (const Optimizer* optimizer : optimizers()) {
    EXPECT_FALSE(optimizer->summary.empty()) << optimizer->name;
    EXPECT_FALSE(optimizer->paper.empty()) << optimizer->name;
    EXPECT_GT(optimizer->learning_rate, 0) << optimizer->name;
    for (const Option& option : optimizer->options) {
      SCOPED_TRACE(fmt::format("{}.{}", optimizer->name, option.name));
      OptionValues values(optimizer->options);
      EXPECT_EQ(values[option.name], option.initial);
      EXPECT_LE(option.least, option.initial);
      EXPECT_LE(option.initial, option.most);
      EXPECT_FALSE(option.help.empty());
      EXPECT_TRUE(values.set("optimizer", option.name, fmt::format("{}", option.least)));
      EXPECT_TRUE(values.set("optimizer", option.name, fmt::format("{}", option.most)));
      for (const std::string& wrong : {fmt::format("{}", option.most + 1), fmt::format("{}", option.least - 1),
                                       std::string("nan"), std::string("much"), std::string()}) {
        const auto set = values.set("optimizer", option.name, wrong);
        ASSERT_FALSE(set) << wrong;
        EXPECT_NE(set.error().message.find(option.name), std::string::npos);
      }
    }
    OptionValues values(optimizer->options);
    EXPECT_FALSE(values.set("optimizer", "no_such_option", "1"));
  }
}

TEST(Optimizers, are_found_by_name) {
  for (const Optimizer* optimizer : optimizers()) EXPECT_EQ(*optimizer_named(optimizer->name), optimizer);
  const auto wrong = optimizer_named("adamv");
  ASSERT_FALSE(wrong);
  EXPECT_NE(wrong.error().message.find("adamw"), std::string::npos) << wrong.error().message;
}

}  // namespace
}  // namespace thimble
