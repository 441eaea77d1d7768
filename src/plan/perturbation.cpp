// How the trained parameters are moved along the directions of a step: in place, by a program of its own, or where the
// passes read them.
#include <algorithm>
#include <map>

#include "graph/rewrite.h"
#include "methods/optimizers/update_expr.h"
#include "plan/training.h"

namespace thimble {
namespace {

// A parameter where the moves have it; threshold: as in Update.
Expr moved(const TrainingSpec& spec, const TrainedParameter& parameter, std::span<const ValueId> moves, Fused& f,
           ValueId value, ValueId threshold) {
  const Directions directions = directions_of(spec);
  const Expr number = f.tensor(value);
  Expr to = number;
  for (int k = 0; k < directions.count(); ++k) {
    if (!directions.moves(k, parameter.layer)) continue;
    Expr move = f.scalar(moves[static_cast<size_t>(k)]);
    if (threshold != kNone) move = move * greater(f.scalar(threshold), abs(number));
    to = to + move * spec.estimator->direction(f.builder(), direction_stream(k, parameter.name));
  }
  return to;
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
