#include "plan/selection.h"

#include <algorithm>

#include "core/count.h"
#include "ops/backward.h"
#include "ops/table.h"
#include "ops/update.h"

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
  if (layers.empty() && draw_period(spec) > 0)
    return fail(ErrorCode::unsupported,
                "--select {}: nothing that trains is in a layer, so that none can take turns; leave it out",
                spec.selector->name);
  for (const auto& [layer, names] : layers)
    if (names != layers.begin()->second)
      return fail(
          ErrorCode::unsupported,
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

// Of adapters, by the layers that they are for.
std::set<std::string, std::less<>> modules_of(const TrainingSpec& spec) {
  std::set<std::string, std::less<>> modules;
  for (const RewriteSpec& rewrite : spec.rewrites)
    for (const auto& [name, module] : rewrite.modules) modules.insert(module.scope + module.owner);
  return modules;
}

std::string_view module_of(const std::set<std::string, std::less<>>& modules, std::string_view name) {
  for (size_t end = name.rfind('.'); end != std::string_view::npos && end > 0; end = name.rfind('.', end - 1))
    if (modules.contains(name.substr(0, end))) return name.substr(0, end);
  return name;
}

bool is_scaled(const RewriteSpec& rewrite) { return rewrite.rewrite->scales; }

Result<void> check_probing(const TrainingSpec& spec) {
  if (!spec.selector->probing) return {};
  if (std::ranges::none_of(spec.rewrites, is_scaled)) {
    std::string scaled;
    for (const Rewrite* const rewrite : rewrites())
      if (rewrite->scales) scaled += fmt::format("{}{}", scaled.empty() ? "" : ", ", rewrite->name);
    return fail(ErrorCode::unsupported,
                "--select {}: it weighs layers by scaling down what their adapters add, which --method {} has no "
                "factor for; take one of {}",
                spec.selector->name, spec.rewrites.front().rewrite->name, scaled);
  }
  if (spec.objective->drift)
    return fail(ErrorCode::unsupported,
                "--select {}: the loss of --objective {} reads how far the model has drifted, which is not measured "
                "with layers scaled down; take --select lisa",
                spec.selector->name, spec.objective->name);
  return {};
}

const Optimizer kScoring = {.name = "score",
                            .summary = "measures gradients, moves nothing",
                            .paper = "",
                            .learning_rate = 0,
                            .options = {},
                            .states = [](const Parameter&, const OptionValues&) { return std::vector<StateSpec>(); },
                            .hooks = {.apply = [](Update& u) {
                              const ValueId score = u.graph.emit(kSquaredNorm, {}, {u.gradient}, score_name(u.name()));
                              u.graph.value(score).role = Role::result;
                            }}};

// What is measured of a probe: its gradient [1, n], or, where a whole weight is probed, the squares of its columns.
void measure_probe(Update& u) {
  if (!u.name().ends_with(kProbe)) return;
  const bool whole = u.trained.shape.rows() > 1;
  const ReduceAttributes by_columns{whole ? Reduce::squares : Reduce::sum, ReduceOver::rows};
  const ValueId measured = u.graph.emit(kReduce, by_columns, {u.gradient}, score_name(u.name()));
  u.graph.value(measured).role = Role::result;
}

const Optimizer kProbing = {.name = "probe",
                            .summary = "measures the gradients of probes, moves nothing",
                            .paper = "",
                            .learning_rate = 0,
                            .options = {},
                            .states = [](const Parameter&, const OptionValues&) { return std::vector<StateSpec>(); },
                            .hooks = {.apply = measure_probe}};

}  // namespace

std::string score_name(std::string_view parameter) { return fmt::format("score.{}", parameter); }

TrainingSpec scoring_spec(const TrainingSpec& spec) {
  TrainingSpec out = spec;
  out.set_optimizer({&kScoring, {}});
  out.selector = &kAllSelector, out.measures_gradients = true;
  out.estimator = &kBackprop, out.estimator_options = OptionValues();
  out.keepers.clear();
  out.clip = 0, out.judges_gradients = false, out.disk = false;
  out.evaluates = spec.objective->reference;  // which is measured before the gradients
  out.batch = 1, out.accumulate = 1, out.near = Near::never, out.moves = {};
  return out;
}

TrainingSpec probing_spec(const TrainingSpec& spec, size_t place) {
  TrainingSpec out = scoring_spec(spec);
  out.multiply = Multiply::f32;  // what is fitted to sums of products has to be sums of those
  out.set_optimizer({&kProbing, {}});
  out.rewrites = {spec.rewrites[place]};
  for (auto& [name, module] : out.rewrites.front().modules) module.probed = true;
  return out;
}

TrainingSpec suppressed_spec(const TrainingSpec& spec, const std::vector<bool>& layers) {
  TrainingSpec out = spec;
  const double scale = spec.selector->probing->scale(spec.selector_options);
  for (RewriteSpec& rewrite : out.rewrites) {
    if (!is_scaled(rewrite)) continue;
    for (auto& [name, module] : rewrite.modules)
      if (module.layer >= 0 && layers[static_cast<size_t>(module.layer)]) module.scale *= scale;
  }
  return out;
}

std::vector<Selectable> selectable_parameters(const TrainingSpec& spec, const Graph& graph) {
  const std::vector<Reach> reach = reach_of(spec, graph);
  const std::set<std::string, std::less<>> modules = modules_of(spec);
  std::vector<Selectable> out;
  for (const ValueId id : parameters_of(graph)) {
    const Value& value = graph.value(id);
    const Reach& at = reach[static_cast<size_t>(id)];
    out.push_back({value.name, value.type.shape, at.first, at.last, training_bytes(spec, value, at),
                   module_of(modules, value.name)});
  }
  return out;
}

Result<std::vector<ValueId>> select_parameters(const TrainingSpec& spec, TrainingGraph& train) {
  const std::vector<ValueId> all = parameters_of(train.graph);
  if (spec.measures_gradients)
    for (const ValueId id : all) freeze(spec, train.graph.value(id));
  if (!spec.selector->select) return all;
  CHECK_OK(check_probing(spec));
  const std::vector<Selectable> parameters = selectable_parameters(spec, train.graph);
  std::vector<double> scores;
  for (const Selectable& parameter : parameters) {
    if (!spec.selector->scored) break;
    const auto score = spec.scores.find(std::string(parameter.name));
    if (score == spec.scores.end())
      return fail(ErrorCode::corrupt, "--select {}: there is no score of '{}'; begin a new run", spec.selector->name,
                  parameter.name);
    scores.push_back(score->second);
  }
  const std::vector<Trains> trains = TRY(spec.selector->select(
      {parameters, spec.architecture.layers(), spec.selector_options, spec.seed, spec.draw, scores, spec.importance}));
  train.slots = TRY(slots_of(spec, parameters, trains));
  if (!train.slots.empty() && spec.optimizer->evaluated)
    return fail(
        ErrorCode::unsupported,
        "--select {}: what --optimizer {} hands out is an average of steps in its states, which layers that rest "
        "have none of; take another optimizer",
        spec.selector->name, spec.optimizer->name);
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
