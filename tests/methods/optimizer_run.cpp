#include "methods/optimizer_run.h"

#include <cmath>
#include <cstring>

#include "core/random.h"
#include "graph/op.h"

namespace thimble {

OptimizerRun::OptimizerRun(const Optimizer& optimizer, OptionValues options, Parameter parameter, double decay,
                           const Codec& states)
    : optimizer_(optimizer), options_(std::move(options)), parameter_(parameter), decay_(decay) {
  of("p").resize(static_cast<size_t>(parameter.shape.count() * 4));
  for (StateSpec state : optimizer.states(parameter, options_)) {
    states_.push_back(coded(state, states));
    reset(states_.back());
  }
}

void OptimizerRun::step(double lr, int64_t t, double clip, const std::vector<float>& gradient, uint64_t seed) {
  Graph graph;
  Update update = begin(graph, clip >= 0);
  for (const Period& period : optimizer_.periods)
    if (const int64_t steps = period.steps(options_); steps > 0 && (t - 1) % steps == 0)
      update.due.push_back(period.name);
  for (const StateSpec& state : states_)
    if (state.reset_every > 0 && (t - 1) % state.reset_every == 0) reset(state);
  const Shape low = optimizer_.accumulator ? optimizer_.accumulator(parameter_, options_) : Shape{};
  if (low.rank() > 0) {
    update.accumulator = graph.add_value("accumulator", {low}, Role::gradient);
    of("accumulator").assign(static_cast<size_t>(low.count() * 4), std::byte{0});
    update.gradient = optimizer_.hooks.absorb(update);
  }
  if (optimizer_.hooks.measure) update.statistics = optimizer_.hooks.measure(update);
  if (optimizer_.total != Total::none) update.totals = update.statistics;
  optimizer_.hooks.apply(update);
  const auto verified = graph.verify();
  ASSERT_TRUE(verified) << verified.error().message << "\n" << graph.text();
  write("g", gradient);
  write("lr", {static_cast<float>(lr)});
  write("step", {static_cast<float>(t)});
  write("clip", {static_cast<float>(clip)});
  run(graph, t, seed);
}

void OptimizerRun::measure_curvature(int64_t t, const std::vector<float>& gradient, int64_t tokens) {
  Graph graph;
  Update update = begin(graph, false);
  update.loss_scale = graph.add_value("scale", {{1}}, Role::input);
  optimizer_.hooks.curvature(update);
  const auto verified = graph.verify();
  ASSERT_TRUE(verified) << verified.error().message << "\n" << graph.text();
  write("g", gradient);
  write("scale", {1 / static_cast<float>(tokens)});
  run(graph, t, 0);
}

std::vector<float> OptimizerRun::state(std::string_view name) {
  for (const StateSpec& state : states_)
    if (state.name == name) return numbers("state." + std::string(name), {state.shape, state.codec});
  ADD_FAILURE() << "no state " << name;
  return {};
}

int64_t OptimizerRun::state_bytes() const {
  int64_t bytes = 0;
  for (const StateSpec& state : states_) bytes += Type{state.shape, state.codec}.bytes();
  return bytes;
}

void OptimizerRun::write(const std::string& name, const std::vector<float>& values) {
  of(name).resize(values.size() * 4);
  std::memcpy(of(name).data(), values.data(), values.size() * 4);
}

std::vector<float> OptimizerRun::numbers(const std::string& name, const Type& type) {
  std::vector<float> out(static_cast<size_t>(type.shape.count()));
  type.codec->decode(of(name).data(), out.data(), type.shape.count());
  return out;
}

void OptimizerRun::reset(const StateSpec& state) {
  const std::vector<float> values(static_cast<size_t>(state.shape.count()), static_cast<float>(state.initial));
  std::vector<std::byte>& to = of("state." + std::string(state.name));
  to.resize(static_cast<size_t>(Type{state.shape, state.codec}.bytes()));
  state.codec->encode(values.data(), to.data(), state.shape.count());
}

Update OptimizerRun::begin(Graph& graph, bool clipped) {
  Update update{.graph = graph, .options = options_, .trained = parameter_, .decay = decay_};
  update.parameter = graph.add_value("p", {parameter_.shape}, Role::parameter);
  update.gradient = graph.add_value("g", {parameter_.shape}, Role::gradient);
  update.accumulator = kNone;
  for (const StateSpec& state : states_) {
    update.states.push_back(
        graph.add_value("state." + std::string(state.name), {state.shape, state.codec}, Role::state));
    update.roots.push_back(state.squares && state.codec->block > 1);
  }
  update.learning_rate = graph.add_value("lr", {{1}}, Role::input);
  update.step = graph.add_value("step", {{1}}, Role::input);
  update.clip = clipped ? graph.add_value("clip", {{1}}, Role::input) : kNone;
  return update;
}

void OptimizerRun::run(const Graph& graph, int64_t t, uint64_t seed) {
  std::vector<std::vector<std::byte>> made(graph.values().size());
  std::vector<std::byte*> data(graph.values().size(), nullptr);
  for (size_t i = 0; i < data.size(); ++i)
    if (persistent(graph.values()[i].role)) data[i] = of(graph.values()[i].name).data();
  RunContext context{threads_, Multiply::f32, seed, static_cast<uint64_t>(t - 1), 0};
  const auto operand = [&](ValueId id) {
    return id == kNone ? Operand{}
                       : Operand{data[static_cast<size_t>(id)], graph.value(id).type.shape, graph.value(id).type.codec};
  };
  for (const Node& node : graph.nodes()) {
    for (ValueId id : node.out) {
      if (id == kNone) continue;
      made[static_cast<size_t>(id)].resize(static_cast<size_t>(graph.value(id).type.bytes()));
      data[static_cast<size_t>(id)] = made[static_cast<size_t>(id)].data();
    }
    for (const InPlace& pair : aliases(node))
      if (pair.destructive)
        data[static_cast<size_t>(node.out[static_cast<size_t>(pair.out)])] =
            data[static_cast<size_t>(node.in[static_cast<size_t>(pair.in)])];
    std::vector<Operand> in, out;
    for (ValueId id : node.in) in.push_back(operand(id));
    for (ValueId id : node.out) out.push_back(operand(id));
    const int64_t bytes = node.op->workspace ? node.op->workspace(node.attributes, graph.types(node.in),
                                                                  graph.types(node.out), Multiply::f32, 2)
                                             : 0;
    std::vector<std::byte> workspace(static_cast<size_t>(bytes));
    node.op->run({node.attributes, in, out, workspace, context});
  }
}

std::vector<float> normals(size_t count, uint64_t seed, double scale) {
  const Random random(seed, "numbers of a test");
  std::vector<float> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<float>(scale * static_cast<double>(random.normal(i)));
  return out;
}

Dense operator*(const Dense& a, const Dense& b) {
  Dense y(a.rows, b.columns);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t k = 0; k < a.columns; ++k)
      for (int64_t j = 0; j < b.columns; ++j) y(i, j) += a(i, k) * b(k, j);
  return y;
}

Dense transpose(const Dense& a) {
  Dense y(a.columns, a.rows);
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) y(j, i) = a(i, j);
  return y;
}

void expect_near(const std::vector<float>& values, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_NEAR(values[i], expected[i], tolerance * (1 + std::abs(expected[i]))) << "element " << i;
}

}  // namespace thimble
