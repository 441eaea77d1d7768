#include "methods/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/nearest.h"
#include "core/split.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr std::array kOptimizers = {&kAdamw,  &kLion,     &kSgd,           &kAdafactor,    &kApollo,       &kApolloMini,
                                    &kGalore, &kLamb,     &kMuon,          &kSpam,         &kSoap,         &kCosmos,
                                    &kCame,   &kAdamMini, &kLars,          &kSgdSai,       &kSophia,       &kProdigy,
                                    &kFira,   &kFrugal,   &kNaturalGalore, &kScheduleFree, &kGradNormLorp, &kSst};

constexpr std::array kWrappers = {&kLookahead, &kGradientNoise, &kKeepZeros};

}  // namespace

std::span<const Optimizer* const> optimizers() { return kOptimizers; }
std::span<const Wrapper* const> wrappers() { return kWrappers; }

StateSpec coded(StateSpec state, const Codec& codec) {
  if (!state.any_codec || state.codec != &kF32 || state.shape.count() < kLeastCoded || &codec == &kF32) return state;
  state.codec = &codec;
  if (state.squares && codec.block > 1) state.initial = std::sqrt(state.initial);
  if (state.shape.columns() % codec.block != 0) state.shape = {state.shape.count()};
  return state;
}

ValueId reset_when_due(Graph& graph, ValueId state, const StateSpec& spec, ValueId step_number) {
  PointwiseBuilder b;
  const Expr value = b.tensor(), step = b.scalar() - 1;
  const auto every = static_cast<double>(spec.reset_every);
  const Expr keep = greater(step - every * floor(step / every), 0.5);
  b.store(value, value * keep + spec.initial * (1 - keep));
  return graph.emit(kPointwise, b.attributes(), {state, step_number}, "reset." + graph.value(state).name);
}

Result<const Optimizer*> optimizer_named(std::string_view name) {
  return find_named("--optimizer", "optimizer", optimizers(), name);
}

Result<OptimizerStack> optimizer_stack_named(std::string_view names) {
  OptimizerStack stack;
  const std::vector<std::string> parts = split(names, ',');
  stack.optimizer = TRY(optimizer_named(parts.empty() ? names : parts.front()));
  for (size_t i = 1; i < parts.size(); ++i) {
    const Wrapper* const wrapper = TRY(find_named("--optimizer", "wrapper of optimizers", wrappers(), parts[i]));
    if (std::ranges::find(stack.wrappers, wrapper) != stack.wrappers.end())
      return fail(ErrorCode::invalid_argument, "--optimizer {}: {} is there twice; leave one of the two out", names,
                  parts[i]);
    if (wrapper->on_gradient && stack.optimizer->accumulator)
      return fail(ErrorCode::unsupported,
                  "--optimizer {}: {} works on the gradient, of which {} accumulates only a part; leave {} out", names,
                  parts[i], stack.optimizer->name, parts[i]);
    stack.wrappers.push_back(wrapper);
  }
  return stack;
}

}  // namespace thimble
