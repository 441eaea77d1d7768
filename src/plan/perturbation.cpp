// The program that moves all trained parameters along the directions of a step.
#include "methods/optimizers/update_expr.h"
#include "plan/training.h"

namespace thimble {

Result<Graph> build_perturbation(const TrainingSpec& spec, const TrainingGraph& train) {
  Graph graph;
  graph.set_phase(Phase::update);
  const Directions directions = directions_of(spec);
  std::vector<ValueId> moves;
  for (int k = 0; k < directions.count(); ++k) moves.push_back(graph.add_value(move_name(k), {{1}}, Role::input));
  for (const TrainedParameter& parameter : train.parameters) {
    const Value& value = train.graph.value(train.graph.find(parameter.name));
    ValueId moved = graph.add_value(value.name, value.type, Role::parameter, value.initial);
    Fused f(graph, "perturb." + parameter.name);
    Expr to = f.tensor(moved);
    for (int k = 0; k < directions.count(); ++k) {
      if (!directions.moves(k, parameter.layer)) continue;
      to = to + f.scalar(moves[static_cast<size_t>(k)]) *
                    spec.estimator->direction(f.builder(), direction_stream(k, parameter.name));
    }
    f.store(moved, to);
    f.emit();
  }
  CHECK_OK(graph.verify());
  return graph;
}

}  // namespace thimble
