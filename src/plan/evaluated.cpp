// What evaluation and files take in place of a parameter (Optimizer::evaluated): in graphs, and element by element.
#include <algorithm>
#include <array>
#include <map>

#include "graph/rewrite.h"
#include "ops/pointwise.h"
#include "ops/update.h"
#include "plan/training.h"

namespace thimble {
namespace {

// The sum of a parameter and its states, each times its factor, as a node just before it is read.
ValueId evaluated(GraphCopy& to, ValueId value, const TrainedParameter& parameter, const std::vector<double>& factors) {
  std::vector<ValueId> operands = {value};
  PointwiseBuilder b;
  Expr sum = factors[0] * b.tensor();
  for (size_t i = 1; i < factors.size(); ++i) {
    if (factors[i] == 0) continue;
    const auto& [name, spec] = parameter.states[i - 1];
    ValueId state = to.graph().find(name);
    if (state == kNone)
      state = to.graph().add_value(name, {spec.shape, spec.codec}, Role::state,
                                   Initial::constant(static_cast<float>(spec.initial)));
    operands.push_back(state);
    sum = sum + factors[i] * b.tensor();
  }
  b.output(sum);
  return to.graph().emit(kPointwise, b.attributes(), operands, "evaluated." + parameter.name);
}

}  // namespace

Graph with_evaluated(const Graph& graph, const TrainingSpec& spec, std::span<const TrainedParameter> parameters) {
  const std::vector<double> factors = spec.optimizer->evaluated(spec.optimizer_options);
  std::map<ValueId, const TrainedParameter*> trained;
  for (const TrainedParameter& parameter : parameters)
    if (const ValueId id = graph.find(parameter.name); id != kNone) trained[id] = &parameter;
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    if (std::ranges::none_of(node.in, [&](ValueId id) { return trained.contains(id); })) return false;
    std::vector<ValueId> in;
    for (const ValueId id : node.in) {
      in.push_back(to.map(id));
      if (const auto found = trained.find(id); found != trained.end())
        in.back() = evaluated(to, in.back(), *found->second, factors);
    }
    to.emit(node, in);
    return true;
  });
  return std::move(copy.graph());
}

Result<void> read_evaluated(const TrainingSpec& spec, const TrainedParameter& parameter, int64_t first,
                            std::span<float> to, const ReadElements& read) {
  CHECK_OK(read(parameter.name, first, to));
  if (!spec.optimizer->evaluated) return {};
  const std::vector<double> factors = spec.optimizer->evaluated(spec.optimizer_options);
  constexpr size_t kAtOnce = 4096;
  std::array<float, kAtOnce> buffer;
  for (size_t i = 0; i < to.size(); i += kAtOnce) {
    const auto part = to.subspan(i, std::min(kAtOnce, to.size() - i));
    const std::span state(buffer.data(), part.size());
    for (float& x : part) x = static_cast<float>(factors[0] * static_cast<double>(x));
    for (size_t k = 1; k < factors.size(); ++k) {
      if (factors[k] == 0) continue;
      CHECK_OK(read(parameter.states[k - 1].first, first + static_cast<int64_t>(i), state));
      for (size_t e = 0; e < part.size(); ++e)
        part[e] += static_cast<float>(factors[k] * static_cast<double>(state[e]));
    }
  }
  return {};
}

}  // namespace thimble
