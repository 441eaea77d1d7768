// Every optimizer of the table against its equations, written once more in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>

#include "core/random.h"
#include "graph/op.h"
#include "methods/optimizer.h"

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

// A new optimizer brings its equation here.
const std::map<std::string_view, Equation> kEquations = {{"adamw", adamw}, {"lion", lion}, {"sgd", sgd}};
const std::map<std::string_view, std::vector<std::vector<std::pair<const char*, const char*>>>> kSettings = {
    {"sgd", {{{"momentum", "0.9"}}, {{"momentum", "0.9"}, {"nesterov", "1"}}}},
    {"adamw", {{{"beta1", "0.5"}, {"epsilon", "0.001"}}}},
};

// One parameter's update as a graph, run by the kernels over memory of its own.
class Updated {
 public:
  Updated(const Optimizer& optimizer, const OptionValues& options, double decay, bool clipped) : optimizer_(optimizer) {
    const Type type{{kCount}};
    parameter_ = graph_.add_value("p", type, Role::parameter);
    gradient_ = graph_.add_value("g", type, Role::gradient);
    Update update{.graph = graph_,
                  .options = options,
                  .trained = {"p", type.shape},
                  .decay = decay,
                  .parameter = parameter_,
                  .gradient = gradient_,
                  .clip = kNone};
    for (const StateSpec& state : optimizer.states({"p", type.shape}, options))
      update.states.push_back(graph_.add_value(std::string(state.name), {state.shape, state.codec}, Role::state));
    states_ = update.states;
    update.learning_rate = rate_ = graph_.add_value("lr", {{1}}, Role::input);
    update.step = step_ = graph_.add_value("step", {{1}}, Role::input);
    if (clipped) update.clip = clip_ = graph_.add_value("clip", {{1}}, Role::input);
    optimizer.hooks.apply(update);
    memory_.resize(graph_.values().size());
    for (size_t i = 0; i < memory_.size(); ++i)
      memory_[i].resize(static_cast<size_t>(graph_.values()[i].type.bytes() + 3) / 4);
    int at = 0;
    for (const StateSpec& state : optimizer.states({"p", type.shape}, options))
      std::ranges::fill(values(states_[static_cast<size_t>(at++)]), static_cast<float>(state.initial));
  }

  void run(double lr, int64_t t, double clip) {
    values(rate_)[0] = static_cast<float>(lr);
    values(step_)[0] = static_cast<float>(t);
    if (clip_ != kNone) values(clip_)[0] = static_cast<float>(clip);
    RunContext context{threads_};
    for (const Node& node : graph_.nodes()) {
      std::vector<Operand> in, out;
      for (ValueId id : node.in) in.push_back(operand(id));
      for (size_t i = 0; i < node.out.size(); ++i) {
        ValueId home = node.out[i];
        for (const InPlace& pair : aliases(node))
          if (pair.destructive && static_cast<size_t>(pair.out) == i) home = node.in[static_cast<size_t>(pair.in)];
        written_.push_back(home);
        out.push_back(operand(home));
      }
      const int64_t bytes = node.op->workspace ? node.op->workspace(node.attributes, graph_.types(node.in),
                                                                    graph_.types(node.out), Multiply::f32, 2)
                                               : 0;
      std::vector<std::byte> workspace(static_cast<size_t>(bytes));
      node.op->run({node.attributes, in, out, workspace, context});
    }
  }

  std::vector<float>& values(ValueId id) { return memory_[static_cast<size_t>(id)]; }
  Graph graph_;
  ValueId parameter_, gradient_, rate_, step_, clip_ = kNone;
  std::vector<ValueId> states_, written_;

 private:
  Operand operand(ValueId id) {
    if (id == kNone) return {};
    return {reinterpret_cast<std::byte*>(values(id).data()), graph_.value(id).type.shape, graph_.value(id).type.codec};
  }
  const Optimizer& optimizer_;
  std::vector<std::vector<float>> memory_;
  Threads threads_{2};
};

// Five steps beside the equation: f32 arithmetic may differ by a few roundings of the step.
void compare(const Optimizer& optimizer, const OptionValues& options, double decay, bool clipped) {
  SCOPED_TRACE(fmt::format("{} {} decay {} clipped {}", optimizer.name, options.text(), decay, clipped));
  Updated update(optimizer, options, decay, clipped);
  const Random random(7, "optimizers");
  std::vector<Element> elements(kCount);
  for (size_t i = 0; i < elements.size(); ++i) {
    elements[i] = {random.normal(i), 0, std::vector<double>(update.states_.size(), 0)};
    elements[i].p = update.values(update.parameter_)[i] = static_cast<float>(elements[i].p);
  }
  const double lr = optimizer.learning_rate, clip = clipped ? 0.25 : 1;
  for (int64_t t = 1; t <= 5; ++t) {
    std::vector<float>& g = update.values(update.gradient_);
    for (size_t i = 0; i < elements.size(); ++i) {
      g[i] = static_cast<float>(random.normal(static_cast<uint64_t>(t) * 100'000 + i));
      elements[i].g = clip * g[i];
      kEquations.at(optimizer.name)(options, {static_cast<float>(lr), decay, t}, elements[i]);
    }
    update.run(lr, t, clip);
  }
  for (size_t i = 0; i < elements.size(); ++i) {
    ASSERT_NEAR(update.values(update.parameter_)[i], elements[i].p, 5e-6 * (1 + std::abs(elements[i].p)))
        << "element " << i;
    for (size_t s = 0; s < update.states_.size(); ++s)
      ASSERT_NEAR(update.values(update.states_[s])[i], elements[i].s[s], 2e-6 * (1 + std::abs(elements[i].s[s])))
          << "state " << s << " of element " << i;
  }
}

TEST(Optimizers, follow_their_equations) {
  for (const Optimizer* optimizer : optimizers()) {
    ASSERT_TRUE(kEquations.contains(optimizer->name)) << optimizer->name << ": write its equation in this test";
    std::vector<OptionValues> settings = {OptionValues(optimizer->options)};
    if (const auto found = kSettings.find(optimizer->name); found != kSettings.end())
      for (const auto& pairs : found->second) {
        OptionValues options(optimizer->options);
        for (const auto& [name, value] : pairs) ASSERT_TRUE(options.set("optimizer", name, value));
        settings.push_back(options);
      }
    for (const OptionValues& options : settings)
      for (double decay : {0.0, 0.1})
        for (bool clipped : {false, true}) compare(*optimizer, options, decay, clipped);
  }
}

// What the plan counts is what the update reads and writes: the parameter and each state, once, and nothing else.
TEST(Optimizers, declared_states_are_the_states_used) {
  for (const Optimizer* optimizer : optimizers()) {
    const OptionValues options(optimizer->options);
    Updated update(*optimizer, options, 0.1, true);
    for (float& g : update.values(update.gradient_)) g = 0.5f;
    for (float& p : update.values(update.parameter_)) p = 1;
    update.run(0.1, 1, 1);
    std::vector<ValueId> persistent_writes;
    for (ValueId id : update.written_)
      if (id != kNone && persistent(update.graph_.value(id).role)) persistent_writes.push_back(id);
    std::vector<ValueId> expected = {update.parameter_};
    expected.insert(expected.end(), update.states_.begin(), update.states_.end());
    EXPECT_EQ(persistent_writes, expected) << optimizer->name;
    EXPECT_NE(update.values(update.parameter_)[3], 1) << optimizer->name;
    for (ValueId state : update.states_)
      EXPECT_NE(update.values(state)[3], 0) << optimizer->name << " state " << update.graph_.value(state).name;
    for (size_t i = 0; i < update.graph_.values().size(); ++i)
      EXPECT_TRUE(update.graph_.values()[i].role != Role::state ||
                  std::ranges::count(update.states_, static_cast<ValueId>(i)) == 1)
          << optimizer->name;
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
