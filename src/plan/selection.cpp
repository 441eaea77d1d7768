#include "plan/selection.h"

#include <algorithm>

#include "core/count.h"
#include "ops/backward.h"

namespace thimble {
namespace {

// Blocks that read a value first and last, as in Selectable.
struct Reach {
  int first = -2, last = -2;  // -2: nothing reads it
};

std::vector<Reach> reach_of(const TrainingSpec& spec, const Graph& graph) {
  const auto layers = static_cast<int>(spec.architecture.layers());
  std::vector<Reach> out(graph.values().size());
  int place = -1;
  for (const Node& node : graph.nodes()) {
    if (node.block >= 0) place = node.block;
    const int here = node.block < 0 && place >= 0 ? layers : place;
    for (const ValueId id : node.in) {
      if (id == kNone) continue;
      Reach& reach = out[static_cast<size_t>(id)];
      if (reach.first == -2) reach.first = here;
      reach.last = here;
    }
  }
  return out;
}

// Of its f32 master, its gradient and the states of the optimizer.
int64_t training_bytes(const TrainingSpec& spec, const Value& value, const Reach& reach) {
  const bool in_block = reach.first >= 0 && reach.first < spec.architecture.layers();
  const Parameter parameter{value.name, value.type.shape, in_block, 0, in_block ? reach.first : -1};
  int64_t bytes = 2 * Type{value.type.shape}.bytes();
  for (const StateSpec& state : spec.optimizer->states(parameter, spec.optimizer_options)) {
    const StateSpec stored = coded(state, *spec.states);
    bytes += Type{stored.shape, stored.codec}.bytes();
  }
  return bytes;
}

// "model.layers.7.mlp.up_proj.weight" of the layer in slot 1: "slot.1.mlp.up_proj.weight".
std::string slot_name(const std::string& name, int layer, size_t slot) {
  const std::string part = fmt::format(".{}.", layer);
  const size_t at = name.find(part);
  return at == std::string::npos ? fmt::format("slot.{}.{}", slot, name)
                                 : fmt::format("slot.{}.{}", slot, name.substr(at + part.size()));
}

// Gradients and states of the layers that train in turn, under names that every period has.
Result<std::map<std::string, std::string>> slots_of(const TrainingSpec& spec, const std::vector<Selectable>& parameters,
                                                    const std::vector<Trains>& trains) {
  std::map<int, std::map<std::string, Shape>> layers;  // parameters of each by their name in slot 0
  std::set<int> drawn;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Selectable& parameter = parameters[i];
    if (trains[i] != Trains::drawn && trains[i] != Trains::resting) continue;
    layers[parameter.first][slot_name(std::string(parameter.name), parameter.first, 0)] = parameter.shape;
    if (trains[i] == Trains::drawn) drawn.insert(parameter.first);
  }
  for (const auto& [layer, names] : layers)
    if (names != layers.begin()->second)
      return fail(ErrorCode::unsupported,
                  "--select {}: layers {} and {} of this model have other parameters: layers that train in turn have to "
                  "be alike; take --select last_layers or patterns",
                  spec.selector->name, layers.begin()->first, layer);
  std::map<std::string, std::string> slots;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (trains[i] != Trains::drawn) continue;
    const auto slot = std::distance(drawn.begin(), drawn.find(parameters[i].first));
    const std::string name(parameters[i].name);
    slots[name] = slot_name(name, parameters[i].first, static_cast<size_t>(slot));
  }
  return slots;
}

// What the model has stored it in.
void freeze(const TrainingSpec& spec, Value& value) {
  value.role = Role::weight;
  if (const Codec* const codec = spec.trains_weights() ? spec.stored(value.name) : nullptr) value.type.codec = codec;
}

}  // namespace

std::vector<Selectable> selectable_parameters(const TrainingSpec& spec, const Graph& graph) {
  const std::vector<Reach> reach = reach_of(spec, graph);
  std::vector<Selectable> out;
  for (const ValueId id : parameters_of(graph)) {
    const Value& value = graph.value(id);
    const Reach& at = reach[static_cast<size_t>(id)];
    out.push_back({value.name, value.type.shape, at.first, at.last, training_bytes(spec, value, at)});
  }
  return out;
}

Result<std::vector<ValueId>> select_parameters(const TrainingSpec& spec, TrainingGraph& train) {
  const std::vector<ValueId> all = parameters_of(train.graph);
  if (!spec.selector->select) return all;
  const std::vector<Selectable> parameters = selectable_parameters(spec, train.graph);
  std::vector<double> scores;
  for (const Selectable& parameter : parameters)
    if (spec.selector->scored) scores.push_back(spec.scores.at(std::string(parameter.name)));
  const std::vector<Trains> trains = TRY(spec.selector->select(
      {parameters, spec.architecture.layers(), spec.selector_options, spec.seed, spec.draw, scores}));
  train.slots = TRY(slots_of(spec, parameters, trains));
  std::vector<ValueId> now;
  for (size_t i = 0; i < all.size(); ++i) {
    if (trains[i] == Trains::now || trains[i] == Trains::drawn) now.push_back(all[i]);
    train.resting += trains[i] == Trains::resting;
    if (trains[i] == Trains::never) train.frozen.insert(std::string(parameters[i].name));
  }
  if (now.empty())
    return fail(ErrorCode::invalid_argument, "--select {}: of the {} none trains with {}", spec.selector->name,
                counted(static_cast<int64_t>(all.size()), "parameter"), spec.selector_options.text());
  for (const ValueId id : all)
    if (train.frozen.contains(train.graph.value(id).name)) freeze(spec, train.graph.value(id));
  return now;
}

}  // namespace thimble
