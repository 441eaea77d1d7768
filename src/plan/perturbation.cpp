// How the trained parameters are moved along the directions of a step: in place, by a program of its own, or where the
// passes read them; or not at all, where the passes carry the derivative along them.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "graph/rewrite.h"
#include "methods/optimizers/update_expr.h"
#include "ops/tangents.h"
#include "plan/training.h"

namespace thimble {
namespace {

// The sum of the directions of a parameter, each times its move.
Expr direction_of(const TrainingSpec& spec, const std::string& name, int layer, std::span<const ValueId> moves,
                  Fused& f) {
  const Directions directions = directions_of(spec);
  std::optional<Expr> sum;
  for (int k = 0; k < directions.count(); ++k) {
    if (!directions.moves(k, layer)) continue;
    const Expr along =
        f.scalar(moves[static_cast<size_t>(k)]) * spec.estimator->direction(f.builder(), direction_stream(k, name));
    sum = sum ? *sum + along : along;
  }
  return *sum;
}

// A parameter where the moves have it; threshold: as in Update.
Expr moved(const TrainingSpec& spec, const TrainedParameter& parameter, std::span<const ValueId> moves, Fused& f,
           ValueId value, ValueId threshold) {
  const Expr number = f.tensor(value), along = direction_of(spec, parameter.name, parameter.layer, moves, f);
  return number + (threshold == kNone ? along : along * moves_within(f.scalar(threshold), number));
}

std::vector<ValueId> move_inputs(const TrainingSpec& spec, Graph& graph) {
  std::vector<ValueId> moves;
  for (int k = 0; k < directions_of(spec).count(); ++k)
    moves.push_back(graph.add_value(move_name(k), {{1}}, Role::input));
  return moves;
}

}  // namespace

void read_moved(const TrainingSpec& spec, TrainingGraph& train) {
  std::map<ValueId, const TrainedParameter*> trained;
  for (const TrainedParameter& parameter : train.parameters) trained[train.graph.find(parameter.name)] = &parameter;
  std::vector<ValueId> moves;
  GraphCopy copy = rewrite(train.graph, [&](GraphCopy& to, const Node& node) {
    if (moves.empty()) moves = move_inputs(spec, to.graph());
    const auto reads = [&](ValueId id) { return trained.contains(id); };
    if (node.phase == Phase::update || std::ranges::none_of(node.in, reads)) return false;
    std::vector<ValueId> in = to.mapped(node.in);
    for (size_t i = 0; i < in.size(); ++i) {
      if (!reads(node.in[i])) continue;
      const TrainedParameter& parameter = *trained[node.in[i]];
      const ValueId threshold = moving_threshold(to.graph(), in[i], spec.estimator->left_out(spec.estimator_options));
      Fused f(to.graph(), "moved." + parameter.name);
      const Expr there = moved(spec, parameter, moves, f, in[i], threshold);
      f.output(in[i], there);
      f.emit();
    }
    to.emit(node, in);
    return true;
  });
  for (ValueId& id : train.updated) id = copy.map(id);
  train.graph = std::move(copy.graph());
}

Result<void> carry_tangents(const TrainingSpec& spec, TrainedValues& trained, TrainingGraph& train) {
  std::set<std::string> moving;
  for (ValueId id : trained.estimated) moving.insert(train.graph.value(id).name);
  std::vector<ValueId> moves;
  const auto seed = [&](Graph& graph, ValueId leaf) {
    const Value value = graph.value(leaf);
    ValueId tangent = kNone;
    if (!moving.contains(value.name)) return tangent;
    Fused f(graph, "direction." + value.name);
    f.builder().shape(value.type.shape);
    f.output(tangent, direction_of(spec, value.name, -1, moves, f));
    f.emit();
    return tangent;
  };
  std::optional<Tangents> tangents;
  Result<void> pushed;
  GraphCopy copy = rewrite(train.graph, [&](GraphCopy& to, const Node& node) {
    if (!tangents) {
      moves = move_inputs(spec, to.graph());
      tangents.emplace(to.graph(), seed);
    }
    to.copy(node);
    Node copied = node;
    copied.in = to.mapped(node.in), copied.out = to.mapped(node.out);
    if (pushed) pushed = tangents->push(copied);
    return true;
  });
  CHECK_OK(pushed);
  const ValueId loss = tangents->of(copy.map(train.graph.find(train.loss)));
  if (loss == kNone)
    return fail(ErrorCode::invalid_argument, "--estimator {}: the loss depends on nothing that is to be trained",
                spec.estimator->name);
  for (std::vector<ValueId>* ids : {&trained.estimated, &trained.derived})
    for (ValueId& id : *ids) id = copy.map(id);
  train.graph = std::move(copy.graph());
  train.graph.value(loss).name = train.loss + std::string(kTangent);
  train.graph.value(loss).role = Role::result;
  return {};
}

Result<Graph> build_perturbation(const TrainingSpec& spec, const TrainingGraph& train) {
  Graph graph;
  graph.set_phase(Phase::update);
  const std::vector<ValueId> moves = move_inputs(spec, graph);
  for (const TrainedParameter& parameter : train.parameters) {
    const Value& value = train.graph.value(train.graph.find(parameter.name));
    ValueId place = graph.add_value(value.name, value.type, Role::parameter, value.initial);
    Fused f(graph, "perturb." + parameter.name);
    const Expr there = moved(spec, parameter, moves, f, place, kNone);
    f.store(place, there);
    f.emit();
  }
  CHECK_OK(graph.verify());
  return graph;
}

}  // namespace thimble
