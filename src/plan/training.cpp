// Building the training graph: model -> method -> backward -> updates.
#include "plan/training.h"

#include <algorithm>
#include <cmath>

#include "ops/backward.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

// Appends the update of every parameter; returns what each keeps.
class UpdateBuilder {
 public:
  UpdateBuilder(const TrainingSpec& spec, TrainingGraph& train) : spec_(spec), train_(train), g_(train.graph) {}

  void build(const std::vector<Backward::ParameterGradient>& gradients) {
    g_.set_phase(Phase::update);
    learning_rate_ = g_.add_value("update.learning_rate", {{1}}, Role::input);
    step_ = g_.add_value("update.step", {{1}}, Role::input);
    std::vector<ValueId> accumulated, squares;
    for (const auto& p : gradients) {
      accumulated.push_back(spec_.optimizer->absorb ? spec_.optimizer->absorb(g_, p.last, spec_.optimizer_options)
                                                    : p.last);
      squares.push_back(g_.emit(kSquaredNorm, {}, {p.last}, "norm." + g_.value(p.parameter).name));
    }
    const ValueId clip = norm(squares);
    train_.update_begin = g_.nodes().size();
    for (size_t i = 0; i < gradients.size(); ++i)
      update(gradients[i].parameter, accumulated[i], spec_.clip > 0 ? clip : kNone);
  }

 private:
  // The factor of clipping, and the norm: both outlive the pass that makes them.
  ValueId norm(const std::vector<ValueId>& squares) {
    const auto out = g_.emit_all(kClipScale, ClipAttributes{spec_.clip}, squares, "update.clip");
    g_.value(out[0]).role = g_.value(out[1]).role = Role::result;
    g_.value(out[1]).name = "update.norm";
    return out[0];
  }

  void update(ValueId parameter, ValueId gradient, ValueId clip) {
    const Value value = g_.value(parameter);
    TrainedParameter trained{value.name, value.type.shape, {}};
    Update update{.graph = g_,
                  .options = spec_.optimizer_options,
                  .decay = decay(value.name),
                  .parameter = parameter,
                  .gradient = gradient,
                  .states = {},
                  .statistics = {},
                  .learning_rate = learning_rate_,
                  .step = step_,
                  .clip = clip};
    for (StateSpec state : spec_.optimizer->states(value.type.shape, spec_.optimizer_options)) {
      if (spec_.eight_bit_states) state = in_eight_bits(state);
      update.roots.push_back(state.squares && state.codec != &kF32);
      const std::string name = fmt::format("{}.{}.{}", spec_.optimizer->name, state.name, value.name);
      update.states.push_back(g_.add_value(name, {state.shape, state.codec}, Role::state));
      trained.states.emplace_back(name, state);
    }
    if (spec_.optimizer->measure) update.statistics = spec_.optimizer->measure(update);
    spec_.optimizer->apply(update);
    train_.parameters.push_back(std::move(trained));
  }

  double decay(const std::string& name) const {
    for (const std::string& part : spec_.no_decay)
      if (name.find(part) != std::string::npos) return 0;
    return spec_.weight_decay;
  }

  const TrainingSpec& spec_;
  TrainingGraph& train_;
  Graph& g_;
  ValueId learning_rate_ = kNone, step_ = kNone;
};

// Moves nodes [begin, end), all of the update, to right after the last node that makes what they read, or reads what
// they write over: a gradient is consumed, or measured, as soon as it exists.
void hoist(Graph& graph, size_t begin, size_t end) {
  const auto& nodes = graph.nodes();
  std::vector<int> last_touch(graph.values().size(), -1);
  std::vector<std::pair<int, size_t>> order;  // (after which node, node)
  for (size_t i = 0; i < nodes.size(); ++i) {
    int after = static_cast<int>(i);
    if (i >= begin && i < end) {
      after = 0;
      for (ValueId id : nodes[i].in)
        if (id != kNone) after = std::max(after, last_touch[static_cast<size_t>(id)]);
    }
    for (ValueId id : nodes[i].in)
      if (id != kNone) last_touch[static_cast<size_t>(id)] = std::max(last_touch[static_cast<size_t>(id)], after);
    for (ValueId id : nodes[i].out)
      if (id != kNone) last_touch[static_cast<size_t>(id)] = after;
    order.emplace_back(after, i);
  }
  std::stable_sort(order.begin(), order.end());
  std::vector<size_t> permutation;
  for (const auto& [after, node] : order) permutation.push_back(node);
  graph.reorder(permutation);
}

}  // namespace

std::vector<int> deferred_order(const TrainingGraph& train) {
  const Graph& graph = train.graph;
  const auto& nodes = graph.nodes();
  // Where each parameter is wanted first: the first node of that block.
  std::vector<int> block_begin, wanted(graph.values().size(), -1);
  for (size_t i = 0; i < train.update_begin; ++i) {
    const Node& node = nodes[i];
    if (node.block >= static_cast<int>(block_begin.size())) block_begin.resize(static_cast<size_t>(node.block) + 1, -1);
    if (node.block >= 0 && block_begin[static_cast<size_t>(node.block)] < 0)
      block_begin[static_cast<size_t>(node.block)] = static_cast<int>(i);
    for (ValueId id : node.in)
      if (id != kNone && wanted[static_cast<size_t>(id)] < 0)
        wanted[static_cast<size_t>(id)] =
            node.block >= 0 ? block_begin[static_cast<size_t>(node.block)] : static_cast<int>(i);
  }
  std::vector<std::pair<int, int>> order;  // (before which node, node), updates first
  for (size_t i = train.update_begin; i < nodes.size(); ++i)
    order.emplace_back(std::max(0, wanted[static_cast<size_t>(nodes[i].in[0])]), static_cast<int>(i));
  for (size_t i = 0; i < train.update_begin; ++i) order.emplace_back(static_cast<int>(i), static_cast<int>(i));
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<int> out;
  for (const auto& [before, node] : order) out.push_back(node);
  return out;
}

Result<TrainingGraph> build_training(const TrainingSpec& spec, int64_t rows, bool barrier) {
  TrainingGraph train;
  train.barrier = barrier;
  BuildOptions options{.purpose = Purpose::train,
                       .prefix = train.prefix,
                       .rows = rows,
                       .positions = spec.context,
                       .activation = spec.activation};
  options.role = spec.method->trains_weights ? Role::parameter : Role::weight;
  options.codec = [&](const std::string& name, const Shape&) {
    const Codec* codec = spec.stored(name);
    return codec && spec.method->trains_weights ? &kF32 : codec;
  };
  ModelGraph model = TRY(build_model(spec.architecture, options));
  train.graph = std::move(model.graph);
  if (spec.method->rewrite)
    train.graph = std::move(TRY(spec.method->rewrite(train.graph, spec.method_options)).graph());
  Backward backward(train.graph);
  backward.run();
  const size_t update = train.graph.nodes().size();
  UpdateBuilder(spec, train).build(backward.parameters());
  hoist(train.graph, update, barrier ? train.update_begin : train.graph.nodes().size());
  CHECK_OK(train.graph.verify());
  return train;
}

}  // namespace thimble
